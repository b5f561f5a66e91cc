"""The options of the comparison of verifiers."""

import argparse
from dataclasses import dataclass

from experiments.marked import marked
from experiments.options import Options as Common
from experiments.options import maybe, option


@dataclass(frozen=True)
class Options(Common):
    """Where the table goes."""

    only: str = option("*", str, "Planted faults by name, as in '*factor*'.", "PATTERN", fast="c*")
    write: str | None = option(
        None, maybe(marked("verifiers")), "Put the table there, between its marks.", "README.md"
    )

    def check(self) -> None:
        """Write only what is complete."""
        if self.write and (self.only != "*" or self.fast):
            raise argparse.ArgumentTypeError("--write: takes the table of all; leave --only and --fast out")
