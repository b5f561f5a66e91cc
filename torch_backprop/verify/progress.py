"""A progress bar: rich's where it is installed, else one line that is written again and again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

Job = tuple[str, Any]
_WIDTH = 30


def progress(jobs: Sequence[Job], quiet: bool = False) -> Iterator[Job]:
    """The jobs, one by one; a bar on standard error, if that is a terminal."""
    if quiet or len(jobs) < 2 or not sys.stderr.isatty():
        yield from jobs
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield from _plain(jobs)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=len(jobs))
        for name, job in jobs:
            bar.update(task, description=name)
            yield name, job
            bar.advance(task)


def _plain(jobs: Sequence[Job]) -> Iterator[Job]:
    for done, (name, job) in enumerate(jobs):
        filled = "#" * (_WIDTH * done // len(jobs))
        sys.stderr.write(f"\r\x1b[K[{filled:<{_WIDTH}}] {done}/{len(jobs)} {name}")
        sys.stderr.flush()
        yield name, job
    sys.stderr.write("\r\x1b[K")
