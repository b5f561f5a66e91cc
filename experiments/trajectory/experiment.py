"""Descend by all variants, draw the map, and tell where they went."""

from dataclasses import asdict
from functools import partial
from typing import Any

from experiments.compare.options import VARIANTS
from experiments.page import legend, name, section, wide
from experiments.processes import together
from experiments.run import Run
from experiments.study import Account, Piece, Progress, study
from experiments.theory.problem import Problem
from experiments.trajectory import figures, words
from experiments.trajectory.measure import Path, Plane, measure
from experiments.words import cost_of, count, heading

COLUMNS = ("problem", "variant", "examples", "across", "along", "cost")
HEADS = ("cost", "variant", "rate", "updates", "examples", "detour", "final cost")


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to."""
    problems = [Problem.of(run.options, name) for name in run.options.problems]
    pieces = {each.name: Piece(each.title, 1.0, partial(_measure, run, each)) for each in problems}
    with together("trajectory", run):
        study(run, pieces, partial(account, run))


def account(run: Run, found: dict[str, Any]) -> Account:
    """Tell what was measured, and write each map as a PNG."""
    options = run.options
    planes = [Plane.of(found[name]) for name in options.problems if name in found]
    for plane in planes if run.leads else ():
        figures.picture(plane, run.folder / f"{words.file_name(plane)}.png")
    paths = [(plane, variant, plane.paths[variant]) for plane in planes for variant in VARIANTS]
    metrics: list[dict[str, Any]] = [
        dict(zip(COLUMNS, (plane.problem, variant, *point), strict=True))
        for plane, variant, path in paths
        for point in zip(path.examples, path.across, path.along, path.costs, strict=True)
    ]
    return Account(
        "Three paths",
        f"{count(options.epochs, 'epoch')} · mini-batches of {options.batch_size} · seed {options.seed}",
        words.headline(planes),
        HEADS,
        [_row(plane, variant, path) for plane, variant, path in paths],
        [_section(plane) for plane in planes],
        COLUMNS,
        metrics,
        {
            f"{words.file_name(plane)}-{variant}": {"cost": list(zip(path.examples, path.costs, strict=True))}
            for plane, variant, path in paths
        },
    )


def _measure(run: Run, problem: Problem, progress: Progress) -> dict[str, Any]:
    return asdict(measure(run, problem, progress))


def _section(plane: Plane) -> str:
    names = legend(name(variant, series) for series, variant in enumerate(VARIANTS))
    drawn = wide(figures.moving(plane)), wide(figures.costs(plane))
    return section(heading(cost_of(plane.problem)), words.plane_line(plane), names, *drawn)


def _row(plane: Plane, variant: str, path: Path) -> list[str]:
    counts = f"{path.updates:,}", f"{path.examples[-1]:,}"
    ends = f"{path.detour:.2f}", f"{path.costs[-1]:.4f}"
    return [plane.problem, variant, f"{path.lr:.3g}", *counts, *ends]
