"""What the rates did, in sentences written from the measured numbers."""

import math
from collections.abc import Mapping, Sequence

from experiments.compare.options import VARIANTS
from experiments.learning_rate.measure import SAFE, Course, Trial, edge, suggestion
from experiments.words import cost_of, series

# From few examples in an update to all.
SIZES = ("stochastic", "mini-batch", "batch")
# How near to 2 the sharpness times the rate is said to be at the edge of stability.
NEAR = 0.1


def headline(sweeps: Mapping[str, Sequence[Trial]]) -> str:
    """Name the rate that is suggested for each variant, and say whether larger groups bear larger ones."""
    found = {
        problem: {variant: best for variant in VARIANTS if (best := suggestion(trials, variant))}
        for problem, trials in sweeps.items()
    }
    named = [
        f"on {cost_of(problem)} {series([f'<b>{v}</b> {trial.lr:.2g}' for v, trial in best.items()])}"
        for problem, best in found.items()
        if best
    ]
    if not named:
        return "No rate that was tried is safe."
    orders = [[best[v].lr for v in reversed(SIZES) if v in best] for best in found.values()]
    rule = (
        " The more examples an update averages over, the larger the step it can be trusted with."
        if all(len(rates) == 3 and rates == sorted(set(rates), reverse=True) for rates in orders)
        else ""
    )
    return f"Suggested rates: {'; '.join(named)}.{rule}"


def edges(trials: Sequence[Trial]) -> str:
    """Say from which rate on each variant diverges."""
    lines = []
    for variant in dict.fromkeys(trial.variant for trial in trials):
        last, lost = edge(trials, variant)
        still = f" ({last:.3g} still converges)" if last else ""
        lines.append(f"{variant} {'nowhere' if math.isinf(lost) else f'at {lost:.3g}{still}'}")
    return f"Divergence begins for {series(lines)}."


def theory(quadratic: bool, trials: Sequence[Trial], bound: float) -> str:
    """Hold batch descent against the bound."""
    last, lost = edge(trials, "batch")
    if not any(trial.variant == "batch" for trial in trials):
        return ""
    where = f"The bound 2/λₘₐₓ of batch descent is {bound:.3g} at the start"
    if last <= bound <= lost:
        return f"{where}, and lies between the last rate that converged and the first that did not."
    if bound < last:
        why = (
            "in so few updates what grows is not yet larger than what shrinks."
            if quadratic
            else "on a cost that is not quadratic λₘₐₓ changes on the way."
        )
        return f"{where}, yet batch descent bears {last / bound:.2g} times as much: {why}"
    return f"{where}, yet batch descent diverges from {lost / bound:.2g} of it on."


def rule(trials: Sequence[Trial]) -> str:
    """Say what makes a suggestion, and which is at an end of the rates, beyond which a better one may be."""
    ends = {pick(trial.lr for trial in trials) for pick in (min, max)}
    found = [variant for variant in VARIANTS if (best := suggestion(trials, variant)) and best.lr in ends]
    rim = f" At the end of the rates tried, and so perhaps not the best: {series(found)}." if found else ""
    return (
        f"Suggested (ring) is the rate of the lowest cost among those up to {SAFE:g} of the smallest that"
        f" diverged (shaded, crosses).{rim}"
    )


def stability(runs: Sequence[Course]) -> str:
    """Say where the sharpness went."""
    ends = {run.lr: run.lr * _end(run) for run in runs if run.sharpness}
    starts = {run.lr: run.lr * run.sharpness[0] for run in runs if run.sharpness}
    rose = [lr for lr, end in ends.items() if end > starts[lr]]
    reached = [lr for lr, end in ends.items() if abs(end - 2) <= 2 * NEAR]
    lines = [f"from {starts[lr]:.2f} to {end:.2f} at rate {lr:.2g}" for lr, end in ends.items() if lr in rose]
    parts = [f"Along batch descent rate times sharpness rises {series(lines)}."] if lines else []
    if reached:
        rates = series([f"{lr:.2g}" for lr in reached])
        parts.append(
            f"At {rates} it comes to rest within {100 * NEAR:.0f} per cent of 2, the edge of stability: the"
            " descent goes on, where a quadratic of that curvature would throw it out."
        )
    return " ".join(parts) or "The sharpness does not rise in so few updates."


def _end(run: Course) -> float:
    # It hovers: the mean of the last quarter says where.
    last = run.sharpness[-max(1, len(run.sharpness) // 4) :]
    return sum(last) / len(last)
