"""What a contender came to over all its seeds, and the way to a cost that all reach."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from experiments.compare.contender import Contender
from experiments.compare.measurement import Outcome

BUDGETS = ("epoch", "updates", "examples", "seconds")


@dataclass(frozen=True)
class Result:
    """One contender's trainings; there is one for each seed."""

    contender: Contender
    outcomes: Sequence[Outcome]

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    @property
    def sound(self) -> bool:
        """Whether every training came to its end, and to a finite cost."""
        return bool(self.outcomes) and all(outcome.sound for outcome in self.outcomes)

    @property
    def diverged(self) -> bool:
        """Whether a training ceased to be finite."""
        return any(outcome.diverged for outcome in self.outcomes)

    @property
    def scores(self) -> list[float]:
        """The scores of the trainings that have one."""
        return [outcome.score for outcome in self.outcomes if outcome.score is not None]

    def last(self, column: str) -> list[float]:
        """Return the last value of a column, of each training that was measured."""
        return [outcome.points[-1][column] for outcome in self.outcomes if outcome.points]

    def band(self, x: str, y: str) -> list[tuple[float, float, float, float]]:
        """Return for each measurement x, and the least, median and greatest y over the seeds.

        All seeds are measured after the same updates; where x is time, it is the median of theirs.
        """
        # A seed that diverged or was stopped ends the band early.
        rows = zip(*(outcome.points for outcome in self.outcomes if outcome.points), strict=False)
        found = []
        for row in rows:
            values = [point[y] for point in row]
            found.append((median(point[x] for point in row), min(values), median(values), max(values)))
        return found

    def spent(self, cost: float) -> dict[str, list[float]] | None:
        """Return what each seed spent until a training cost was first measured; None if not by all."""
        firsts = [
            next((point for point in outcome.points if point["cost"] <= cost), None)
            for outcome in self.outcomes
        ]
        if not firsts or None in firsts:
            return None
        return {budget: [point[budget] for point in firsts if point] for budget in BUDGETS}


Spent = dict[str, dict[str, list[float]]]


def finish_line(results: Sequence[Result], target: float | None) -> tuple[float, Spent]:
    """Find what each spent on the way to the target, or else to the lowest cost that all sound ones reach.

    Returns:
        The cost, and by name what was spent by those who reach it; nothing where fewer than two could.
    """
    # Who diverged has no way down to compare.
    sound = [result for result in results if result.sound]
    if len(sound) < 2:
        return math.inf, {}
    lowest = max(
        min(point["cost"] for point in outcome.points) for result in sound for outcome in result.outcomes
    )
    cost = lowest if target is None else target
    spent = {result.name: result.spent(cost) for result in sound}
    return cost, {name: each for name, each in spent.items() if each}


def over_seeds(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Write the median, and in brackets the least and the greatest where they differ.

    >>> over_seeds([0.5, 0.75, 0.25], "{:.2f}".format)
    '0.50 (0.25–0.75)'
    """
    middle, low, high = (write(f(values)) for f in (median, min, max))
    return middle if low == high else f"{middle} ({low}–{high})"
