"""Try the rates, follow the sharpness, and tell what they did."""

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from experiments.compare.contender import Contender
from experiments.compare.options import VARIANTS
from experiments.learning_rate import figures, words
from experiments.learning_rate.measure import Course, Trial, attempt, follow
from experiments.learning_rate.options import Options
from experiments.page import bullets, grid, legend, name, section, wide
from experiments.processes import together
from experiments.run import Run
from experiments.study import Account, Piece, Progress, study
from experiments.theory.problem import Problem
from experiments.words import cost_of, heading

COLUMNS = ("problem", "variant", "lr", "order", "cost")
# The rates whose sharpness is followed, as shares of the bound at the start.
SHARES = (0.25, 0.5, 1.0)


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to."""
    problems = [Problem.of(run.options, each) for each in run.options.problems]
    with together("learning_rate", run):
        study(run, pieces(run, problems), partial(account, run, problems))


def pieces(run: Run, problems: list[Problem]) -> dict[str, Piece]:
    """List the measurements, by the names that they are kept under."""
    options, found = run.options, {}
    for problem in problems:
        found[_bound(problem)] = Piece(_bound(problem), 1.0, lambda _, of=problem: of.limit)
        for variant in options.variants:
            for lr in rates(options):
                title = _trial(problem, variant, lr)
                found[title] = Piece(title, 1.0, partial(_attempt, run, problem, variant, lr))
        for share in SHARES if options.sharpness_updates and not problem.quadratic else ():
            title = _sharpness(problem, share)
            work = options.sharpness_updates / options.updates
            found[title] = Piece(title, work, partial(_follow, run, problem, share))
    return found


def rates(options: Options) -> list[float]:
    """Return the rates to try, evenly spaced on a logarithmic axis."""
    decades = math.log10(options.highest / options.lowest)
    number = max(2, round(decades * options.per_decade) + 1)
    return [options.lowest * 10 ** (decades * place / (number - 1)) for place in range(number)]


def account(run: Run, problems: list[Problem], found: dict[str, Any]) -> Account:
    """Tell what was measured, and draw the rates of each problem as a PNG."""
    options: Options = run.options
    sweeps = {problem: trials for problem in problems if (trials := _trials(options, problem, found))}
    bounds = {problem: found[_bound(problem)] for problem in sweeps}
    for problem, trials in sweeps.items() if run.leads else ():
        figures.picture(trials, bounds[problem], problem.unit, run.folder / f"{problem.name}.png")
    titled = {problem.title: trials for problem, trials in sweeps.items()}
    metrics: list[dict[str, Any]] = [
        dict(zip(COLUMNS, (problem.title, trial.variant, trial.lr, order, cost), strict=True))
        for problem, trials in sweeps.items()
        for trial in trials
        for order, cost in enumerate(trial.costs)
    ]
    courses = {problem: _courses(problem, found) for problem in problems}
    return Account(
        "How large a step",
        f"{options.updates:,} updates at each of {len(rates(options))} rates · seed {options.seed}",
        words.headline(titled) if titled else "",
        ("cost", "variant", "suggested", "lowest cost", "last stable", "first diverged", "2/λₘₐₓ"),
        [row for problem, trials in sweeps.items() for row in _rows(problem, trials, bounds[problem])],
        [part for problem in sweeps for part in _sections(problem, sweeps[problem], bounds, courses)],
        COLUMNS,
        metrics,
        {
            **{f"{each.name}-{who}": _ends(sweeps[each], who) for each in sweeps for who in options.variants},
            **{
                f"{problem.name}-sharpness-{course.lr:.3g}": _events(course)
                for problem in problems
                for course in courses[problem]
            },
        },
    )


def _bound(problem: Problem) -> str:
    return f"{problem.name} · bound"


def _trial(problem: Problem, variant: str, lr: float) -> str:
    return f"{problem.name} · {variant} · rate {lr:.4g}"


def _sharpness(problem: Problem, share: float) -> str:
    return f"{problem.name} · sharpness at {share:g} of the bound"


def _attempt(run: Run, problem: Problem, variant: str, lr: float, progress: Progress) -> list[float | None]:
    size = {"batch": math.inf, "stochastic": 1.0}.get(variant, float(run.options.batch_size))
    who = Contender(variant, size, VARIANTS.index(variant))
    return attempt(run, problem, who, lr, progress)


def _follow(run: Run, problem: Problem, share: float, progress: Progress) -> dict[str, Any]:
    return asdict(follow(run, problem, share, progress))


def _trials(options: Options, problem: Problem, found: dict[str, Any]) -> list[Trial]:
    pairs = [(variant, lr) for variant in options.variants for lr in rates(options)]
    titled = [(_trial(problem, *pair), *pair) for pair in pairs]
    return [Trial(variant, lr, found[title]) for title, variant, lr in titled if title in found]


def _courses(problem: Problem, found: dict[str, Any]) -> list[Course]:
    titles = [_sharpness(problem, share) for share in SHARES]
    return [Course(**found[title]) for title in titles if title in found]


def _sections(
    problem: Problem, trials: list[Trial], bounds: dict[Problem, float], courses: dict[Problem, list[Course]]
) -> list[str]:
    title, limit = problem.title, bounds[problem]
    text = f"{words.theory(problem.quadratic, trials, limit)} {words.edges(trials)} {words.rule(trials)}"
    names = legend(name(variant, series) for series, variant in enumerate(VARIANTS))
    drawn = wide(figures.sweep(title, trials, limit, problem.unit))
    swept = section(heading(cost_of(title)), text, names, drawn)
    return [swept, _stability(problem, courses[problem])] if courses[problem] else [swept]


def _stability(problem: Problem, courses: list[Course]) -> str:
    text = (
        f"Sharpness is λₘₐₓ of the Hessian of the whole cost, over the {len(problem.rows.x):,} rows of the"
        f" training part. {words.stability(courses)}"
    )
    source = (
        "Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of"
        " stability, arXiv:2103.00065."
    )
    names = legend(name(f"rate {course.lr:.2g}", series) for series, course in enumerate(courses))
    drawn = grid([figures.sharpness(courses), figures.costs(courses, problem.unit)])
    return section(f"The edge of stability: {problem.title}", text, names, drawn, bullets([source]))


def _rows(problem: Problem, trials: list[Trial], limit: float) -> list[list[str]]:
    rows = []
    for variant in dict.fromkeys(trial.variant for trial in trials):
        best, (last, lost) = words.suggestion(trials, variant), words.edge(trials, variant)
        found = [f"{best.lr:.3g}", f"{best.cost:.4f}"] if best else ["none", "–"]
        ends = [f"{last:.3g}" if last else "none", f"{lost:.3g}" if math.isfinite(lost) else "none"]
        bound = f"{limit:.3g}" if variant == "batch" else ""
        rows.append([problem.title, variant, *found, *ends, bound])
    return rows


def _ends(trials: list[Trial], variant: str) -> dict[str, list[tuple[int, float]]]:
    """Return the costs that a variant came to, at the places of their rates from the lowest on."""
    own = sorted((trial for trial in trials if trial.variant == variant), key=lambda trial: trial.lr)
    found = [(place, trial) for place, trial in enumerate(own) if not trial.diverged]
    return {
        "learning rate": [(place, trial.lr) for place, trial in found],
        "cost after the last update": [(place, trial.cost) for place, trial in found],
    }


def _events(course: Course) -> dict[str, list[tuple[int, float]]]:
    pairs = {"sharpness": course.sharpness, "cost": course.costs}
    return {tag: list(zip(course.updates, values, strict=True)) for tag, values in pairs.items()}
