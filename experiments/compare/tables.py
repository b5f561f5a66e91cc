"""The terminal's tables: the rates that were tried, and what each contender came to."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from experiments.compare.contender import Contender
from experiments.compare.rates import Trial
from experiments.compare.result import Result
from experiments.compare.words import ends, heads
from experiments.terminal import COLOURS
from experiments.words import count


def sweep_table(trials: Sequence[Trial], contenders: Sequence[Contender], chosen: dict[str, float]) -> Group:
    """Lay out the validation cost of every rate tried; the chosen ones stand out."""
    cost = {(trial.name, trial.lr): trial.cost for trial in trials}
    epochs = {trial.name: trial.epochs for trial in trials}
    tried = [contender for contender in contenders if contender.name in epochs]
    table = Table(box=None, pad_edge=False)
    table.add_column("rate", justify="right")
    for contender in tried:
        head = f"{contender.name}\n[dim]{count(epochs[contender.name], 'epoch')}[/]"
        table.add_column(head, justify="right", style=colour(contender))
    for lr in sorted({trial.lr for trial in trials}):
        row = [(cost.get((contender.name, lr), ...), lr == chosen.get(contender.name)) for contender in tried]
        table.add_row(f"{lr:g}", *(_trial_cell(*cell) for cell in row))
    # Apart, since a title of the table's own is broken to the table's width.
    return Group("[italic]Learning rates tried: validation cost[/]", table)


def result_table(results: Sequence[Result], score: str) -> Table:
    """Lay out what each contender came to."""
    seeds = max(len(result.outcomes) for result in results)
    title = f"Medians of {seeds} seeds; the report has their spread" if seeds > 1 else None
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads(score):
        # The name alone is never broken in two.
        table.add_column(head, justify="left" if head == "variant" else "right", no_wrap=head == "variant")
    for result in results:
        table.add_row(f"[{colour(result.contender)}]{result.name}[/]", *ends(result, spread=False))
    return table


def colour(contender: Contender) -> str:
    """Return a contender's colour in the terminal."""
    return COLOURS[contender.series % len(COLOURS)]


def _trial_cell(cost: Any, chosen: bool) -> str:
    # Not tried is not the same as diverged, which is None.
    if cost is ...:
        return ""
    text = "diverged" if cost is None else f"{cost:.4f}" if cost < 1e4 else f"{cost:.1e}"
    return f"[bold reverse] {text} [/]" if chosen else f"{text} "
