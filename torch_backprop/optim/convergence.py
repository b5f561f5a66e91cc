"""Whether a descent has come to its end, judged once for each pass."""

from dataclasses import dataclass
from math import inf


@dataclass
class Convergence:
    """Counts the passes in which the objective did not fall by at least `tol` below its lowest value.

    Attributes:
        tol: of the objective and of the largest element of its gradient; None never converges.
        patience: the number of such passes in a row that count as the end.
        best: the lowest objective.
        stalled: the number of such passes so far.
    """

    tol: float | None
    patience: int
    best: float = inf
    stalled: int = 0

    def see(self, objective: float, largest: float = inf) -> bool:
        """Return whether a pass with this objective and largest element of its gradient ends the descent."""
        if self.tol is None:
            return False
        self.stalled = self.stalled + 1 if objective > self.best - self.tol else 0
        self.best = min(self.best, objective)
        return largest <= self.tol or self.stalled >= self.patience
