"""The options of the table of layers."""

import argparse
from dataclasses import dataclass

from experiments.marked import marked
from experiments.options import Options as Common
from experiments.options import maybe, option


@dataclass(frozen=True)
class Options(Common):
    """Which layers, and where the table goes."""

    only: str = option("*", str, "Layers by name, as in 'Conv*'.", "PATTERN", fast="Li*")
    write: str | None = option(
        None, maybe(marked("coverage")), "Put the table there, between its marks.", "README.md"
    )

    def check(self) -> None:
        """Write only what is complete."""
        if self.write and (self.only != "*" or self.fast):
            raise argparse.ArgumentTypeError("--write: takes the table of all; leave --only and --fast out")
