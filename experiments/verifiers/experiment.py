"""Let every verifier judge every planted fault and its correct twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.figure import SERIES, SOFT, sketch
from experiments.marked import Marked, machine, markdown
from experiments.page import section, table, wide
from experiments.run import Run, RunError
from experiments.study import Account, Piece, Progress, study
from experiments.verifiers.contest import COLUMNS, VERIFIERS, Results, Verdict, rows_of, verdicts
from experiments.verifiers.options import Options

if TYPE_CHECKING:
    from tests.zoo import Plant

METRICS = ("fault", "planted as", "verifier", "found", "by name", "false alarm", "seconds")


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to.

    Raises:
        RunError: If the planted faults cannot be found, or none has such a name.
    """
    try:
        from tests.zoo import ZOO
    except ImportError as error:
        raise RunError("no planted faults here; start it in a checkout, where tests/zoo is") from error
    options: Options = run.options
    # By number too: two faults may be planted under one name.
    plants = {
        f"{i} {plant.name}": (i, plant)
        for i, plant in enumerate(ZOO)
        if fnmatchcase(plant.name, options.only)
    }
    if not plants:
        raise RunError(f"--only: {options.only!r} is the name of no planted fault")
    pieces = {name: Piece(plant.name, 1.0, _measure(i, plant)) for name, (i, plant) in plants.items()}
    named = {name: plant for name, (_, plant) in plants.items()}
    study(run, pieces, partial(_tell, options, named))


def _measure(number: int, plant: Plant) -> Callable[[Progress], Any]:
    def measure(_: Progress) -> dict[str, list[dict[str, Any]]]:
        return {name: [asdict(each) for each in pair] for name, pair in verdicts(plant, number).items()}

    return measure


def _tell(options: Options, plants: dict[str, Plant], found: dict[str, Any]) -> Account:
    results: Results = {
        plants[name]: {who: (Verdict(**pair[0]), Verdict(**pair[1])) for who, pair in kept.items()}
        for name, kept in found.items()
    }
    rows = [list(row) for row in rows_of(results)] if results else []
    # Half a table in the README would be worse than an old one.
    if options.write and len(results) == len(plants):
        Marked(options.write, "verifiers").write(f"{markdown(COLUMNS, rows)}\n\n{machine()}")
    sections = [_figure(results), _each(results)] if results else []
    headline = (
        f"<b>{rows[0][0]}</b> finds {rows[0][1]} planted faults; {rows[-1][0]} find {rows[-1][1]}."
        if rows
        else ""
    )
    events = {name: {"found": _found_by(results, name)} for name in VERIFIERS}
    return Account(
        "Who finds the fault",
        f"{len(results)} planted faults, each with a correct twin",
        headline,
        COLUMNS,
        rows,
        sections,
        METRICS,
        list(_metrics(results)),
        events,
    )


def _metrics(results: Results) -> list[dict[str, Any]]:
    return [
        dict(zip(METRICS, (plant.fault, plant.name, name, *_cells(*pair)), strict=True))
        for plant, pairs in results.items()
        for name, pair in pairs.items()
    ]


def _cells(faulty: Verdict, twin: Verdict) -> tuple[bool, bool, bool, float]:
    return faulty.complained, faulty.named, twin.complained, round(faulty.seconds + twin.seconds, 3)


def _found_by(results: Results, name: str) -> list[tuple[int, float]]:
    """Count the faults that a verifier has found, after each."""
    total, found = 0, []
    for step, pairs in enumerate(results.values(), 1):
        total += pairs[name][0].complained
        found.append((step, float(total)))
    return found


def _figure(results: Results) -> str:
    with sketch("planted faults found by each verifier", 9.0, 2.4) as drawing:
        axes = drawing.axes[0]
        counts = [_found_by(results, name)[-1][1] for name in VERIFIERS]
        bars = axes.barh(list(VERIFIERS), counts, color=SERIES[0], height=0.6)
        axes.bar_label(bars, padding=4)
        axes.axvline(len(results), color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlabel("planted faults found")
    text = (
        f"Of {len(results)} planted faults (the dashed line), given the one sample that a user would write."
    )
    return section("Faults found", text, wide(drawing.svg))


def _each(results: Results) -> str:
    rows = [
        [plant.fault, plant.name, *(_word(*pairs[name]) for name in VERIFIERS)]
        for plant, pairs in results.items()
    ]
    text = "A complaint about the faulty one is a find; one about its correct twin is a false alarm."
    # Of its whole name the table has no room.
    heads = [name.removeprefix("torch_backprop.verify.") for name in VERIFIERS]
    return section("Fault by fault", text, table(("fault", "planted as", *heads), rows))


def _word(faulty: Verdict, twin: Verdict) -> str:
    return ("found" if faulty.complained else "") + (" false alarm" if twin.complained else "")
