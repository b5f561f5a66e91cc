"""What a person sees in the terminal while an experiment works: one bar over the whole job."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

COLOURS = ("blue", "dark_orange", "green", "magenta", "yellow", "cyan", "tan")
"""Of the series, in the order of the figures' colours."""

# Characters of a line that the bar, the share and the times need.
OTHERS = 40


class Bar:
    """One bar over all pieces of a job, whose share of it is the work they are expected to take."""

    def __init__(self, console: Console, total: float) -> None:
        # In a narrow terminal the words give way, and no number is cut.
        words = Column(no_wrap=True, overflow="ellipsis", max_width=max(8, console.width - OTHERS))
        text = TextColumn("{task.description}", table_column=words)
        whole = [Column(min_width=width, no_wrap=True) for width in (4, 7, 7)]
        share, elapsed = TaskProgressColumn(table_column=whole[0]), TimeElapsedColumn(table_column=whole[1])
        left = TimeRemainingColumn(table_column=whole[2])
        columns = text, BarColumn(bar_width=None), share, elapsed, TextColumn("·"), left, TextColumn("left")
        # Into a pipe or a file, a bar would be noise.
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("Starting", total=total)
        self._done = self._work = 0.0
        self._phase = ""

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, work: float, phase: str) -> None:
        """Go to the next piece, whatever became of the one before."""
        self._done, self._work, self._phase = self._done + self._work, work, phase
        self.move(0.0)

    def move(self, share: float, detail: str = "") -> None:
        """Show how much of the present piece is done."""
        phase = f"{self._phase} · {detail}" if detail else self._phase
        self._progress.update(self._task, completed=self._done + share * self._work, description=phase)
