"""Descend to the end of each cost, and tell how fast that was."""

from dataclasses import asdict
from functools import partial
from typing import Any

from experiments.convergence import figures, words
from experiments.convergence.measure import Course, measure
from experiments.convergence.options import Options
from experiments.page import grid, section
from experiments.processes import together
from experiments.run import Run
from experiments.study import Account, Piece, Progress, study
from experiments.theory.problem import Problem
from experiments.words import heading

COLUMNS = ("problem", "updates", "gap", "gradient_norm")
HEADS = ("cost", "rate", "theory per update", "measured", "condition", "updates", "over the minimum")


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to."""
    problems = [Problem.of(run.options, name, run.options.decay) for name in run.options.problems]
    pieces = {each.name: Piece(each.title, 1.0, partial(_measure, run, each)) for each in problems}
    with together("convergence", run):
        study(run, pieces, partial(account, run.options))


def account(options: Options, found: dict[str, Any]) -> Account:
    """Tell what was measured."""
    courses = [Course.of(found[name]) for name in options.problems if name in found]
    metrics: list[dict[str, Any]] = [
        dict(zip(COLUMNS, (course.problem, *point), strict=True))
        for course in courses
        for point in zip(course.updates, course.gaps, course.norms, strict=True)
    ]
    return Account(
        "To the bottom",
        f"batch descent · rate {options.rate:g} of 2/λₘₐₓ · decay {options.decay:g}"
        f" · tolerance {options.tol:g} · seed {options.seed}",
        words.headline(courses) if courses else "",
        HEADS,
        [_row(course) for course in courses],
        [_section(course) for course in courses],
        COLUMNS,
        metrics,
        {course.problem: _events(course) for course in courses},
    )


def _measure(run: Run, problem: Problem, progress: Progress) -> dict[str, Any]:
    return asdict(measure(run, problem, progress))


def _section(course: Course) -> str:
    text = f"{words.course_line(course)} {words.stop_line(course)}"
    return section(heading(course.problem), text, grid([figures.heights(course), figures.norms(course)]))


def _row(course: Course) -> list[str]:
    numbers = (f"{course.theoretical:.6f}", f"{course.measured:.6f}", f"{course.condition:,.0f}")
    known = ["–" if text == "nan" else text for text in numbers]
    end = f"{course.stop.updates:,}", f"{course.stop.gap:.1e}"
    return [course.problem, f"{course.lr:.3g}", *known, *end]


def _events(course: Course) -> dict[str, list[tuple[int, float]]]:
    pairs = {"cost over its minimum": course.gaps, "gradient norm": course.norms}
    return {tag: list(zip(course.updates, values, strict=True)) for tag, values in pairs.items()}
