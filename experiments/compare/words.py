"""What the numbers say, in sentences; each is written from the measurements, and only if they support it."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.measurement import Outcome
from experiments.rates import Trial

BUDGETS = ("epoch", "updates", "examples", "seconds")


def series(parts: Sequence[str]) -> str:
    """Join parts as a sentence does.

    >>> series(["batch 3", "mini-batch 1", "stochastic 0.03"])
    'batch 3, mini-batch 1 and stochastic 0.03'
    """
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def count(number: int, noun: str) -> str:
    """Write a number and its noun.

    >>> count(1, "epoch"), count(40, "epoch")
    ('1 epoch', '40 epochs')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def finish_line(outcomes: Sequence[Outcome]) -> tuple[float, dict[str, dict[str, Any]]]:
    """Find the lowest training cost that all finished variants reach.

    Returns:
        The cost, and for each variant the first measurement as low as that; none if there are not two.
    """
    sound = _sound(outcomes)
    if len(sound) < 2:
        return math.inf, {}
    cost = max(min(point["cost"] for point in outcome.points) for outcome in sound)
    return cost, {
        outcome.variant: next(point for point in outcome.points if point["cost"] <= cost) for outcome in sound
    }


def headline(outcomes: Sequence[Outcome], score: str) -> str:
    """Say in one or two sentences what the comparison found."""
    sound = _sound(outcomes)
    if not sound:
        return "No training has come to its end yet."
    best = min(sound, key=lambda outcome: outcome.points[-1]["cost"])
    scores = sorted((outcome.score or 0.0, outcome.variant) for outcome in sound)
    cost = f"<b>{best.variant}</b> ends at the lowest training cost, {best.points[-1]['cost']:.4f}"
    if len(sound) == 1:
        return f"{cost}, with a {score} of {scores[0][0]:.3f}."
    low, high = (f"{value:.3f} ({variant})" for value, variant in (scores[0], scores[-1]))
    return f"Given the same epochs, {cost}. The {score} lies between {low} and {high}."


def race(outcomes: Sequence[Outcome]) -> str:
    """Say which variant comes down to the common cost by the least of each budget."""
    cost, points = finish_line(outcomes)
    if not points:
        return ""

    # Two variants can tie: both are measured at the ends of epochs.
    def least(budget: str) -> str:
        fewest = min(point[budget] for point in points.values())
        names = [f"<b>{variant}</b>" for variant, point in points.items() if point[budget] == fewest]
        return f"{series(names)} {'takes' if len(names) == 1 else 'take'}"

    return (
        f"To bring the training cost down to {cost:.3g}, which {series(list(points))} reach,"
        f" {least('updates')} the fewest updates, {least('examples')} the fewest examples,"
        f" and {least('seconds')} the least time."
    )


def rate_order(chosen: dict[str, float], trials: Sequence[Trial]) -> str:
    """Name the rates that won, and say whether larger groups took larger ones."""
    tried = {trial.variant for trial in trials}
    found = series([f"{variant} {rate:g}" for variant, rate in chosen.items() if variant in tried])
    rates = [chosen[variant] for variant in ("stochastic", "mini-batch", "batch") if variant in tried]
    lost = sum(trial.cost is None for trial in trials)
    parts = [f"{found}."]
    # The theory says so; this run may not.
    if len(rates) == 3 and rates == sorted(set(rates)):
        parts.append("The more examples an update averages over, the larger the step it can be trusted with.")
    # Silence would make the figure's crosses a riddle.
    if lost:
        parts.append(f"{lost} of {len(trials)} trials diverged (crosses).")
    return " ".join(parts)


def divergences(outcomes: Sequence[Outcome]) -> list[str]:
    """Name each variant whose cost ceased to be finite, and each that is unfinished."""
    lines = []
    for outcome in outcomes:
        if outcome.diverged:
            lines.append(
                f"{outcome.variant} diverged at learning rate {outcome.lr:g}:"
                f" its last finite update is number {outcome.last_finite_update:,}."
            )
        elif not outcome.finished:
            lines.append(f"{outcome.variant} was interrupted: its figures are those measured until then.")
    return lines


def _sound(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.finished and not outcome.diverged]
