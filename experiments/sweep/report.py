"""The sweep's page and its table in the terminal."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from experiments import report
from experiments.compare import plots as curves
from experiments.figure import scale, sketch
from experiments.page import bullets, grid, lead, legend, name, note, section, table
from experiments.run import Run
from experiments.sweep.result import MEASURE, Cell, Finished, best, cells
from experiments.terminal import COLOURS
from experiments.words import count

TITLE = "A sweep over learning rates"
ENDS = ("cost", MEASURE)
HEADS = ("variant", "rate", "seeds", "diverged", "training cost", "validation cost", "test score", "seconds")


def write(
    run: Run,
    jobs: int,
    finished: Sequence[Finished],
    failures: Mapping[str, str],
    environments: Sequence[Mapping[str, Any]],
) -> Path:
    """Write report.html from whatever has been run.

    Returns:
        Its path.
    """
    found = cells(finished)
    chosen = best(found)
    sections = [lead(_headline(jobs, finished, failures, list(chosen.values())))]
    if found:
        rows = [_row(cell, cell is chosen.get(cell.contender)) for cell in found]
        contenders = dict.fromkeys(cell.contender for cell in found)
        names = legend(name(who.name, who.series) for who in contenders)
        sections += [table(HEADS, rows), *map(note, edges(found))]
        sections += [*_figures(found, chosen, names), _links(finished)]
    if failures:
        items = [f"<code>{escape(which)}</code>: {escape(why)}" for which, why in failures.items()]
        text = "Each is tried again when the sweep is resumed; what it has written is in its log.txt."
        sections.append(section("What failed", text, bullets(items)))
    options = run.options
    subtitle = f"{options.data.name} · {options.model.name} · {count(jobs, 'run')}"
    return report.write_report(run, TITLE, subtitle, sections, environments)


def terminal_table(finished: Sequence[Finished]) -> Table:
    """Lay out every contender at every rate; the best rate of each stands out."""
    found = cells(finished)
    chosen = best(found)
    shown = Table(box=None, pad_edge=False)
    for head in HEADS:
        shown.add_column(head, justify="left" if head == "variant" else "right", no_wrap=head == "variant")
    for cell in found:
        style = COLOURS[cell.contender.series % len(COLOURS)]
        bold = "bold " if cell is chosen.get(cell.contender) else ""
        shown.add_row(cell.contender.name, *_ends(cell), style=bold + style)
    return shown


def edges(found: Sequence[Cell]) -> list[str]:
    """Name each contender whose best rate is the lowest or the highest tried: a better one may lie beyond."""
    said = []
    for who, cell in best(found).items():
        tried = [each.lr for each in found if each.contender == who]
        for end, beyond in ((min(tried), "lower"), (max(tried), "higher")):
            if cell.lr == end and len(tried) > 1:
                said.append(f"{who.name} does best at the {beyond[:-1]}st rate tried: try {beyond} ones too.")
    return said


def _headline(
    jobs: int, finished: Sequence[Finished], failures: Mapping[str, str], chosen: Sequence[Cell]
) -> str:
    done = f"{len(finished)} of {count(jobs, 'run')} finished" + (
        f", {len(failures)} failed." if failures else "."
    )
    if not chosen:
        return f"{done} None has come to a finite cost."
    lowest = min(chosen, key=lambda cell: cell.middle(MEASURE))
    where = f"<b>{lowest.contender.name}</b> at a rate of {lowest.lr:g}"
    return f"{done} The lowest validation cost, {lowest.middle(MEASURE):.4g}, is that of {where}."


def _row(cell: Cell, chosen: bool) -> list[str]:
    ends = [f"<b>{text}</b>" if chosen else text for text in _ends(cell)]
    return [name(cell.contender.name, cell.contender.series), *ends]


def _ends(cell: Cell) -> list[str]:
    result = cell.result
    diverged = sum(outcome.diverged for outcome in result.outcomes)
    costs = [f"{cell.middle(column):.4g}" if cell.sound else "–" for column in ("cost", MEASURE)]
    score = f"{median(result.scores):.3f}" if result.scores else "–"
    seconds = f"{cell.middle('seconds'):.3g}" if any(result.last("seconds")) else "–"
    return [f"{cell.lr:g}", str(len(result.outcomes)), str(diverged), *costs, score, seconds]


def _figures(found: Sequence[Cell], chosen: Mapping[Any, Cell], names: str) -> list[str]:
    text = (
        "What each contender ends at, against its learning rate: the median over the seeds, in the band from"
        " the least to the most. A cross at the top marks a rate at which a seed diverged."
    )
    unit = found[0].result.outcomes[0].unit
    drawn = [
        _against_rate(found, column, f"{part} cost at the end, {unit}")
        for column, part in zip(ENDS, ("training", "validation"), strict=True)
    ]
    sections = [section("Learning rates", text, names, grid(drawn))]
    if chosen:
        text = "Each contender at its best rate, the bold one of the table."
        results = [cell.result for cell in chosen.values()]
        ways = [
            curves.curves(results, x, "cost", f"training cost, {unit}", x != "epoch", True)
            for x in ("epoch", "updates", "examples", "seconds")
        ]
        sections.append(section("The way down", text, names, grid(ways)))
    return sections


def _against_rate(found: Sequence[Cell], column: str, label: str) -> str:
    with sketch(f"{label} against learning rate") as drawing:
        axes = drawing.axes[0]
        sound = [cell for cell in found if cell.sound]
        highest = max((cell.middle(column) for cell in sound), default=1.0)
        for who in dict.fromkeys(cell.contender for cell in found):
            own = [cell for cell in sound if cell.contender == who]
            lost = [cell.lr for cell in found if cell.contender == who and not cell.sound]
            colour, marker = curves.look(who)
            rates = [cell.lr for cell in own]
            lows, highs = ([end(cell.result.last(column)) for cell in own] for end in (min, max))
            axes.fill_between(rates, lows, highs, color=colour, alpha=0.18, linewidth=0)
            axes.plot(rates, [cell.middle(column) for cell in own], color=colour, marker=marker, markersize=5)
            axes.plot(lost, [highest * 1.3] * len(lost), linestyle="", marker="x", color=colour)
        scale(axes, True, True)
        axes.set_xlabel("learning rate of one update")
        axes.set_title(label, loc="left", fontsize=10)
    return drawing.svg


def _links(finished: Sequence[Finished]) -> str:
    items = [
        f'<a href="runs/{escape(each.job.name)}/report.html">{escape(each.job.name)}</a>' for each in finished
    ]
    return section("Runs", "Each has a folder, and a report of its own.", bullets(items))
