"""An experiment made of pieces, each measured once: stopped between any two, it goes on from there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from experiments import interrupt
from experiments.environment import device, environment
from experiments.page import bare, lead, table
from experiments.report import say_where, write_events, write_report
from experiments.run import Run
from experiments.terminal import Bar

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Piece:
    """One measurement.

    Attributes:
        title: says in the bar what is being measured.
        work: the seconds it is expected to take; it only steers the bar.
        measure: takes what to tell the progress, and returns what JSON can hold.
    """

    title: str
    work: float
    measure: Callable[[Progress], Any]


@dataclass(frozen=True)
class Account:
    """What is to be told of the pieces that are measured.

    Attributes:
        title: of the report.
        subtitle: the options that matter.
        headline: what was found, in a sentence or two of HTML.
        heads: the columns of the table, which terminal and report share.
        rows: its cells, plain text.
        sections: the report's, after headline and table.
        columns: those of metrics.csv.
        metrics: its rows.
        events: for each series and tag the pairs of step and value that TensorBoard shows.
    """

    title: str
    subtitle: str
    headline: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    sections: Sequence[str]
    columns: Sequence[str]
    metrics: list[dict[str, Any]]
    events: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]] = field(default_factory=dict)


def study(run: Run, pieces: Mapping[str, Piece], tell: Callable[[dict[str, Any]], Account]) -> None:
    """Measure the pieces that are not measured yet, and report; a stop reports what there is.

    Of several processes that train together each measures every piece, and the one that leads reports.

    Args:
        run: its state keeps the measured pieces.
        pieces: by the names that they are kept under.
        tell: makes an account of the measured pieces, by name; there may be none yet.

    Raises:
        interrupt.Interrupted: after the report, if someone asked for a stop.
    """
    # The models are too small to be worth sharing, and seconds are those of one thread.
    torch.set_num_threads(1)
    console, state = Console(quiet=not run.leads), run.load_state()
    found = state.get("pieces", {})
    trainer = getattr(run.options, "trainer", None)
    here = environment(run.options.seed, device(trainer.accelerator) if trainer else "cpu")
    environments = [*state.get("environments", []), here]
    try:
        with Bar(console, sum(piece.work for piece in pieces.values())) as bar:
            for name, piece in pieces.items():
                bar.begin(piece.work, piece.title)
                if name not in found:
                    found[name] = piece.measure(_checked(bar))
                    run.save_state({"pieces": found, "environments": environments})
        _report(run, console, tell(found), environments)
    except interrupt.Interrupted:
        _report(run, console, tell(found), environments)
        raise


def _checked(bar: Bar) -> Progress:
    def progress(share: float, detail: str) -> None:
        # Autograd and destructors run Python too, and not all of them let an exception out.
        interrupt.check()
        bar.move(share, detail)

    return progress


def _report(run: Run, console: Console, account: Account, environments: list[dict[str, Any]]) -> None:
    if not run.leads:
        return
    run.write_rows("metrics.csv", account.columns, account.metrics)
    for series, curves in account.events.items():
        write_events(run, series, curves)
    shown = [lead(account.headline), table(account.heads, account.rows)] if account.rows else []
    sections = [*shown, *account.sections] or [lead("Nothing has been measured yet.")]
    path = write_report(run, account.title, account.subtitle, sections, environments)
    lines = Table(box=None, pad_edge=False)
    for number, head in enumerate(account.heads):
        # Where the terminal is narrow a long name is broken, and nothing is cut.
        lines.add_column(head, justify="right" if number else "left", overflow="fold")
    for row in account.rows:
        lines.add_row(*row)
    if account.rows:
        console.print(lines, "")
        console.print(bare(account.headline), "", highlight=False, markup=False)
    say_where(console, run, path)
