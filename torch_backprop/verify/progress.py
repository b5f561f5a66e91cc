"""A progress bar: rich's where it is installed, else one line that is written again and again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from .report import Report

_WIDTH = 30


def progress(names: Sequence[str], reports: Iterator[Report], quiet: bool = False) -> Iterator[Report]:
    """The reports, one by one, under a bar on standard error, if that is a terminal.

    Args:
        names: what is verified, in the order of the reports.
        reports: made while they are asked for.
        quiet: no bar.
    """
    if quiet or len(names) < 2 or not sys.stderr.isatty():
        yield from reports
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield from _plain(names, reports)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(names[0], total=len(names))
        for done, report in enumerate(reports, 1):
            bar.update(task, advance=1, description=names[min(done, len(names) - 1)])
            yield report


def _plain(names: Sequence[str], reports: Iterator[Report]) -> Iterator[Report]:
    for done, report in enumerate(reports, 1):
        filled = "#" * (_WIDTH * done // len(names))
        sys.stderr.write(f"\r\x1b[K[{filled:<{_WIDTH}}] {done}/{len(names)} {names[done - 1]}")
        sys.stderr.flush()
        yield report
    sys.stderr.write("\r\x1b[K")
