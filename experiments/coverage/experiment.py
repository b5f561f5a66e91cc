"""Try every layer: what it can do, and what it holds in memory, as the README's table has it."""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from matplotlib.ticker import MaxNLocator

from experiments.coverage.ability import HEADS, cells, layers
from experiments.coverage.options import Options
from experiments.figure import SERIES, SOFT, sketch
from experiments.marked import Marked, markdown
from experiments.page import section, wide
from experiments.run import Run, RunError
from experiments.study import Account, Piece, Progress, study

ABILITIES = HEADS[2:6]


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to.

    Raises:
        RunError: If no layer has such a name.
    """
    options: Options = run.options
    specs = {kind.__name__: spec for kind, spec in layers().items()}
    chosen = {name: spec for name, spec in specs.items() if fnmatchcase(name.lower(), options.only.lower())}
    if not chosen:
        raise RunError(f"--only: {options.only!r} is the name of no layer, such as 'Conv2d'")
    pieces = {name: Piece(name, 1.0, _measure(spec)) for name, spec in chosen.items()}
    study(run, pieces, partial(_tell, options, len(chosen)))


def _measure(spec: Any) -> Callable[[Progress], list[str]]:
    return lambda _: cells(spec)


def _tell(options: Options, layers: int, found: dict[str, list[str]]) -> Account:
    rows = list(found.values())
    # Half a table in the README would be worse than an old one.
    if options.write and len(rows) == layers:
        Marked(options.write, "coverage").write(markdown(HEADS, rows))
    headline, sections = "", []
    if rows:
        whole = sum(all(cell != "no" for cell in row[2:6]) for row in rows)
        less = sum("of torch's" in row[6] or (row[6] == "0") for row in rows)
        headline = (
            f"<b>{whole}</b> of {len(rows)} layers do all four: {', '.join(ABILITIES)}. In {less} of them"
            " less is held between the passes than in their built-in, or nothing."
        )
        sections = [_figure(rows)]
    # A link in the README is a path elsewhere.
    shown = [[re.sub(r"\[(.*)\]\(.*\)", r"\1", cell) for cell in row] for row in rows]
    return Account(
        "What each layer can do",
        f"{len(rows)} layers of torch_backprop.nn · {options.only}",
        headline,
        HEADS,
        shown,
        sections,
        HEADS,
        [dict(zip(HEADS, row, strict=True)) for row in shown],
        {name: {"layers": _counts(rows, name)} for name in ABILITIES},
    )


def _counts(rows: list[list[str]], name: str) -> list[tuple[int, float]]:
    """Count the layers that have an ability, after each."""
    able = [row[HEADS.index(name)] != "no" for row in rows]
    return [(step, float(sum(able[:step]))) for step in range(1, len(able) + 1)]


def _figure(rows: list[list[str]]) -> str:
    with sketch("layers that have each ability", 9.0, 2.2) as drawing:
        axes = drawing.axes[0]
        bars = axes.barh(
            ABILITIES, [_counts(rows, name)[-1][1] for name in ABILITIES], color=SERIES[0], height=0.6
        )
        axes.bar_label(bars, padding=4)
        axes.axvline(len(rows), color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        axes.grid(visible=False)
        axes.set_xlabel("layers")
    text = f"Of {len(rows)} layers (the dashed line), those that can, with the built-in's numbers."
    return section("Abilities", text, wide(drawing.svg))
