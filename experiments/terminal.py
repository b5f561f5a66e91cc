"""What a person sees in the terminal: one bar over the whole job, the sweep, the table."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from experiments.measurement import COLUMNS, Outcome
from experiments.rates import Trial
from experiments.words import count

COLOURS = {"batch": "blue", "stochastic": "dark_orange", "mini-batch": "green"}


class Bar:
    """One bar over all trainings, whose share of it is the work they are expected to take."""

    def __init__(self, console: Console, total: float) -> None:
        text, bar = TextColumn("{task.description}"), BarColumn(bar_width=None)
        columns = text, bar, TaskProgressColumn(), TimeElapsedColumn(), TextColumn("·"), TimeRemainingColumn()
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
        """Go to the next training, whatever became of the one before."""
        self._done, self._work, self._phase = self._done + self._work, work, phase
        self.move(0.0)

    def move(self, share: float, detail: str = "") -> None:
        """Show how much of the present training is done."""
        phase = f"{self._phase} · {detail}" if detail else self._phase
        self._progress.update(self._task, completed=self._done + share * self._work, description=phase)


def sweep_table(trials: list[Trial], chosen: dict[str, float]) -> Table:
    """Lay out the validation cost of every rate tried; the chosen ones stand out."""
    variants = list(dict.fromkeys(trial.variant for trial in trials))
    cost = {(trial.variant, trial.lr): trial.cost for trial in trials}
    epochs = {trial.variant: trial.epochs for trial in trials}
    title = "Learning rates tried: validation cost"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("rate", justify="right")
    for variant in variants:
        head = f"{variant}\n[dim]{count(epochs[variant], 'epoch')}[/]"
        table.add_column(head, justify="right", style=COLOURS[variant])
    for lr in sorted({trial.lr for trial in trials}):
        cells = (_trial_cell(cost.get((variant, lr), ...), lr == chosen.get(variant)) for variant in variants)
        table.add_row(f"{lr:g}", *cells)
    return table


def result_table(outcomes: Iterable[Outcome], score: str) -> Table:
    """Lay out what each variant came to."""
    table = Table(box=None, pad_edge=False)
    for head in heads(score):
        table.add_column(head, justify="left" if head == "variant" else "right")
    for outcome in outcomes:
        table.add_row(f"[{COLOURS[outcome.variant]}]{outcome.variant}[/]", *cells(outcome))
    return table


def heads(score: str) -> tuple[str, ...]:
    """Name the columns of the table of results, for the terminal and for the report."""
    return "variant", "rate", "epochs", "updates", "examples", "seconds", "final cost", score


def cells(outcome: Outcome) -> list[str]:
    """Write an outcome's figures under `heads`, the variant left out."""
    last = outcome.points[-1] if outcome.points else dict.fromkeys(COLUMNS, 0)
    counts = [
        f"{last['epoch']:.4g}",
        f"{last['updates']:,}",
        f"{last['examples']:,}",
        f"{last['seconds']:.1f}",
    ]
    if outcome.diverged:
        end = ["diverged", "–"]
    elif outcome.score is None:
        end = [f"{last['cost']:.4f}", "interrupted"]
    else:
        end = [f"{last['cost']:.4f}", f"{outcome.score:.4f}"]
    return [f"{outcome.lr:g}", *counts, *end]


def _trial_cell(cost: object, chosen: bool) -> str:
    if cost is ...:
        return ""
    text = "diverged" if cost is None else f"{cost:.4f}"
    return f"[bold reverse] {text} [/]" if chosen else f"{text} "
