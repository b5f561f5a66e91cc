"""What the runs of a sweep have come to, by contender and rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from experiments.compare.contender import Contender
from experiments.compare.measurement import QUANTITIES, Outcome
from experiments.compare.result import Result
from experiments.sweep.grid import Job

COLUMNS = (
    "run",
    "variant",
    "seed",
    "lr",
    "status",
    "epoch",
    "updates",
    "examples",
    "seconds",
    *QUANTITIES,
    "score",
)
MEASURE = "validation_cost"
"""By which rates are chosen."""


@dataclass(frozen=True)
class Finished:
    """A run that has come to its end."""

    job: Job
    outcome: Outcome

    @classmethod
    def of(cls, job: Job) -> "Finished | None":
        """Read what a run has come to; None if it has not come to its end."""
        outcomes = [Outcome(**each) for each in job.run.load_state().get("outcomes", {}).values()]
        return cls(job, outcomes[0]) if outcomes and outcomes[0].finished else None

    def row(self) -> dict[str, Any]:
        """Return its row of the table of all runs."""
        outcome = self.outcome
        status = "diverged" if outcome.diverged else "finished"
        last = outcome.points[-1] if outcome.points else {}
        own = {"run": self.job.name, "lr": self.job.lr, "status": status, "score": outcome.score}
        place = {"variant": outcome.name, "seed": outcome.seed}
        return {name: value for name, value in (last | place | own).items() if name in COLUMNS}


@dataclass(frozen=True)
class Cell:
    """One contender at one rate, over all seeds that have come to their end."""

    lr: float
    result: Result

    @property
    def contender(self) -> Contender:
        """Who it is."""
        return self.result.contender

    @property
    def sound(self) -> bool:
        """Whether every seed came to a finite cost."""
        return self.result.sound

    def middle(self, column: str) -> float:
        """Return the median over the seeds of the last value of a column."""
        return median(self.result.last(column))


def cells(finished: Sequence[Finished]) -> list[Cell]:
    """Gather the runs by contender and rate, in the order of the grid."""
    groups: dict[tuple[Contender, float], list[Outcome]] = {}
    for each in finished:
        groups.setdefault((each.job.contender, each.job.lr), []).append(each.outcome)
    found = [Cell(lr, Result(who, outcomes)) for (who, lr), outcomes in groups.items()]
    return sorted(found, key=lambda cell: (cell.contender.series, cell.lr))


def best(found: Sequence[Cell]) -> dict[Contender, Cell]:
    """Return each contender's rate of the lowest validation cost, of those at which no seed diverged."""
    chosen: dict[Contender, Cell] = {}
    for cell in found:
        other = chosen.get(cell.contender)
        if cell.sound and (other is None or cell.middle(MEASURE) < other.middle(MEASURE)):
            chosen[cell.contender] = cell
    return chosen
