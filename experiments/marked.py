"""Generated tables in a text: each between two marks, which stay."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.options import Parse


class Marked:
    """The part of a file between ``<!-- NAME -->`` and ``<!-- end of NAME -->``, lines of their own.

    Raises:
        argparse.ArgumentTypeError: the file cannot be read, or has no such marks.
    """

    def __init__(self, file: str, name: str) -> None:
        self._file = Path(file)
        self._begin, self._end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        try:
            self._parts()
        except OSError as error:
            raise argparse.ArgumentTypeError(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            words = f"{file} has no lines {self._begin.strip()} and {self._end}"
            raise argparse.ArgumentTypeError(words) from error

    @property
    def text(self) -> str:
        """What is between the marks now."""
        return self._parts()[1]

    def write(self, text: str) -> None:
        """Puts another text between the marks."""
        before, _, after = self._parts()
        self._file.write_text(f"{before}{self._begin}{text.rstrip()}\n{self._end}{after}")

    def _parts(self) -> tuple[str, str, str]:
        before, rest = self._file.read_text().split(self._begin)
        now, after = rest.split(self._end)
        return before, now, after


def marked(name: str) -> Parse:
    """Accepts a file that has the marks of this name."""

    def parse(file: Any) -> str:
        Marked(str(file), name)
        return str(file)

    return parse


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as the README has them."""
    rule = ["---"] * len(heads)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def machine() -> str:
    """On what machine the figures of a table were measured, in a sentence."""
    # Only here, so that a file without marks is refused before torch has come.
    from experiments.environment import environment

    facts = environment(0, "cpu")
    return f"Measured on one thread of {facts['device']}, torch {facts['torch']}, Python {facts['python']}."
