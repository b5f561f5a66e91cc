"""A progress bar for what takes long."""

import sys
import time
from contextlib import AbstractContextManager

PATIENCE, PERIOD, WIDTH = 2.0, 0.2, 30
"""Seconds before the bar appears and between two looks of it, and its characters."""


class Bar(AbstractContextManager):
    """A line on standard error that is written again and again, if that is a terminal, and taken away.

    Args:
        quiet: no bar.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet or not sys.stderr.isatty()
        self.due, self.shown = time.monotonic() + PATIENCE, False

    def show(self, done: int, total: int, note: str) -> None:
        """Draw that `done` of `total` is done, if the time for it has come."""
        now = time.monotonic()
        if self.quiet or now < self.due:
            return
        self.due, self.shown = now + PERIOD, True
        filled = "#" * (WIDTH * done // total)
        sys.stderr.write(f"\r\x1b[K[{filled:<{WIDTH}}] {note}")
        sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
