"""Try the rates, follow the sharpness, and tell what they did."""

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from experiments.learning_rate import figures, words
from experiments.learning_rate.measure import PROBLEMS, SHARPNESS_ROWS, Run, Trial, attempt, bound, follow
from experiments.learning_rate.options import Options
from experiments.page import bullets, grid, legend, name, section, wide
from experiments.run import Run as Folder
from experiments.study import Account, Piece, Progress, study
from experiments.theory.problem import one_hot_perceptron
from experiments.theory.variants import VARIANTS

COLUMNS = ("problem", "variant", "lr", "order", "cost")
# The rates whose sharpness is followed, as shares of the bound at the start.
SHARES = (0.25, 0.5, 1.0)
# The times that the sharpness is measured along a descent.
MEASURED = 60


def main(run: Folder) -> None:
    """Run the experiment, and report whatever it has come to."""
    options = run.options
    pieces: dict[str, Piece] = {}
    for problem in options.problems:
        for variant in options.variants:
            title = f"{problem} · {variant}"
            pieces[title] = Piece(title, len(rates(options)), partial(_sweep, options, problem, variant))
    for share in SHARES if options.sharpness_updates else ():
        title = f"sharpness at {share:g} of the bound"
        pieces[title] = Piece(title, len(rates(options)), partial(_follow, options, share))
    study(run, pieces, partial(account, options))


def rates(options: Options) -> list[float]:
    """Return the rates to try, evenly spaced on a logarithmic axis."""
    decades = math.log10(options.highest / options.lowest)
    number = max(2, round(decades * options.per_decade) + 1)
    return [options.lowest * 10 ** (decades * place / (number - 1)) for place in range(number)]


def account(options: Options, found: dict[str, Any]) -> Account:
    """Tell what was measured."""
    sweeps = {problem: _trials(options, problem, found) for problem in options.problems}
    bounds = {problem: _bound(problem, found) for problem in options.problems}
    runs = [Run(**kept) for title, kept in found.items() if title.startswith("sharpness")]
    sections = [_section(problem, sweeps[problem], bounds[problem]) for problem in sweeps if sweeps[problem]]
    if runs:
        sections.append(_stability(runs))
    rows = [cell for problem, trials in sweeps.items() for cell in _rows(problem, trials, bounds[problem])]
    metrics: list[dict[str, Any]] = [
        dict(zip(COLUMNS, (problem, trial.variant, trial.lr, order, cost), strict=True))
        for problem, trials in sweeps.items()
        for trial in trials
        for order, cost in enumerate(trial.costs)
    ]
    return Account(
        "How large a step",
        f"{options.updates:,} updates at each of {len(rates(options))} rates · seed {options.seed}",
        words.headline(sweeps),
        ("cost", "variant", "suggested", "lowest cost", "last stable", "first diverged", "2/λₘₐₓ"),
        rows,
        sections,
        COLUMNS,
        metrics,
        {f"sharpness-{run.lr:.3g}": _events(run) for run in runs},
    )


def _sweep(options: Options, name: str, variant: str, progress: Progress) -> dict[str, Any]:
    problem, trials, every = PROBLEMS[name](options.seed), [], rates(options)
    for number, lr in enumerate(every):
        progress(number / len(every), f"rate {lr:.2g}")
        trials.append(attempt(problem, variant, lr, options.updates, options.batch_size, options.repeats))
    return {"bound": bound(problem), "trials": [asdict(trial) for trial in trials]}


def _follow(options: Options, share: float, progress: Progress) -> dict[str, Any]:
    problem = one_hot_perceptron(options.seed, SHARPNESS_ROWS)
    every = max(20, options.sharpness_updates // MEASURED)
    return asdict(follow(problem, share * bound(problem), options.sharpness_updates, every, progress))


def _trials(options: Options, problem: str, found: dict[str, Any]) -> list[Trial]:
    kept = [found.get(f"{problem} · {variant}", {"trials": []}) for variant in options.variants]
    return [Trial(**trial) for sweep in kept for trial in sweep["trials"]]


def _bound(problem: str, found: dict[str, Any]) -> float:
    return next((kept["bound"] for key, kept in found.items() if key.startswith(f"{problem} ·")), math.nan)


def _section(problem: str, trials: list[Trial], limit: float) -> str:
    text = f"{words.theory(problem, trials, limit)} {words.edges(trials)} {words.rule(trials)}"
    names = legend(name(variant, series) for series, variant in enumerate(VARIANTS))
    return section(f"The {problem} cost", text, names, wide(figures.sweep(problem, trials, limit)))


def _stability(runs: list[Run]) -> str:
    text = (
        f"Sharpness is λₘₐₓ of the Hessian of the whole cost, on {SHARPNESS_ROWS} of the digits."
        f" {words.stability(runs)}"
    )
    source = (
        "Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of"
        " stability, arXiv:2103.00065."
    )
    return section(
        "The edge of stability", text, grid([figures.sharpness(runs), figures.costs(runs)]), bullets([source])
    )


def _rows(problem: str, trials: list[Trial], limit: float) -> list[list[str]]:
    rows = []
    for variant in dict.fromkeys(trial.variant for trial in trials):
        best, (last, lost) = words.suggestion(trials, variant), words.edge(trials, variant)
        found = [f"{best.lr:.3g}", f"{best.cost:.4f}"] if best else ["none", "–"]
        ends = [f"{last:.3g}" if last else "none", f"{lost:.3g}" if math.isfinite(lost) else "none"]
        rows.append([problem, variant, *found, *ends, f"{limit:.3g}" if variant == "batch" else ""])
    return rows


def _events(run: Run) -> dict[str, list[tuple[int, float]]]:
    pairs = {"sharpness": run.sharpness, "cost": run.costs}
    return {tag: list(zip(run.updates, values, strict=True)) for tag, values in pairs.items()}
