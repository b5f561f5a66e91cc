"""A progress bar for a pass that takes long."""

from __future__ import annotations

import sys
import time

PATIENCE, PERIOD, WIDTH = 2.0, 0.2, 30
"""Seconds before the bar appears and between two looks of it, and its characters."""


class Bar:
    """A line on standard error that is written again and again, if that is a terminal.

    Args:
        total: the number of examples.
        quiet: no bar.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet = total, quiet or not sys.stderr.isatty()
        self.start = time.monotonic()
        self.due, self.shown = self.start + PATIENCE, False

    def show(self, done: int, path: str) -> None:
        """Draw how many examples are done, if the time for it has come."""
        now = time.monotonic()
        if self.quiet or now < self.due:
            return
        self.due, self.shown = now + PERIOD, True
        filled, left = WIDTH * done // self.total, (now - self.start) * (self.total - done) / max(done, 1)
        bar = f"[{'#' * filled:<{WIDTH}}] {done}/{self.total} examples, {path}, {left:.0f} s left"
        sys.stderr.write(f"\r\x1b[K{bar}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
