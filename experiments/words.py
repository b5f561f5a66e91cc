"""What the numbers say, in sentences; each is written from the measurements, and only if they support it."""

from collections.abc import Sequence
from typing import Any

from experiments.measurement import Outcome
from experiments.options import VARIANTS
from experiments.rates import Trial

BUDGETS = ("epoch", "updates", "examples", "seconds")


def series(parts: Sequence[str]) -> str:
    """Join parts as a sentence does.

    >>> series(["batch 3", "mini-batch 1", "stochastic 0.03"])
    'batch 3, mini-batch 1 and stochastic 0.03'
    """
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def target(outcomes: Sequence[Outcome]) -> float | None:
    """Return the lowest training cost that every finished variant reaches, if there are two to compare."""
    reached = [min(point["cost"] for point in outcome.points) for outcome in _sound(outcomes)]
    return max(reached) if len(reached) > 1 else None


def reaching(outcome: Outcome, cost: float) -> dict[str, Any] | None:
    """Return the first measurement at which the training cost is as low as `cost`."""
    return next((point for point in outcome.points if point["cost"] <= cost), None)


def headline(outcomes: Sequence[Outcome], score: str) -> str:
    """Say in one or two sentences what the comparison found."""
    sound = _sound(outcomes)
    if not sound:
        return "No training has come to its end yet."
    best = min(sound, key=lambda outcome: outcome.points[-1]["cost"])
    scores = sorted((outcome.score or 0.0, outcome.variant) for outcome in sound)
    cost = f"<b>{best.variant}</b> ends at the lowest training cost, {best.points[-1]['cost']:.4f}"
    if len(sound) == 1:
        return f"{cost.capitalize()}, with a {score} of {scores[0][0]:.3f}."
    return (f"Given the same epochs, {cost}. The {score} lies between {scores[0][0]:.3f} "
            f"({scores[0][1]}) and {scores[-1][0]:.3f} ({scores[-1][1]}).")  # fmt: skip


def race(outcomes: Sequence[Outcome]) -> str:
    """Say which variant comes down to the common cost by the least of each budget."""
    cost = target(outcomes)
    if cost is None:
        return ""
    firsts = {outcome.variant: reaching(outcome, cost) for outcome in _sound(outcomes)}
    winner = {budget: min(firsts, key=lambda name: (firsts[name] or {})[budget]) for budget in BUDGETS}
    return (f"To bring the training cost down to {cost:.3g}, which every variant reaches, "
            f"<b>{winner['updates']}</b> needs the fewest updates, <b>{winner['examples']}</b> the fewest examples, "
            f"and <b>{winner['seconds']}</b> the least time.")  # fmt: skip


def rate_order(chosen: dict[str, float], trials: Sequence[Trial]) -> str:
    """Say which rates were chosen, and whether larger groups took larger ones."""
    rates = [chosen[variant] for variant in ("stochastic", "mini-batch", "batch")]
    found = series([f"{variant} {chosen[variant]:g}" for variant in VARIANTS])
    lost = sum(trial.cost is None for trial in trials)
    parts = [f"Chosen: {found}."]
    if rates == sorted(rates) and rates[0] < rates[-1]:
        parts.append("The more examples an update averages over, the larger the step it can be trusted with.")
    if lost:
        parts.append(f"{lost} of {len(trials)} trials diverged (crosses).")
    return " ".join(parts)


def divergences(outcomes: Sequence[Outcome]) -> list[str]:
    """Name each variant whose cost ceased to be finite, and each that is unfinished."""
    lines = []
    for outcome in outcomes:
        if outcome.diverged:
            lines.append(f"<b>{outcome.variant}</b> diverged at rate {outcome.lr:g}: "
                         f"its last finite update is {outcome.last_finite_update:,}.")  # fmt: skip
        elif not outcome.finished:
            lines.append(f"<b>{outcome.variant}</b> was interrupted; its figures are those measured until then.")
    return lines


def _sound(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.finished and not outcome.diverged]
