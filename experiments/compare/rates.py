"""Learning rates found by trial and error: a short training at each, the lowest validation cost wins."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from experiments.measurement import Outcome
from experiments.options import Options
from experiments.train import Leg

# Half decades over all that the three variants want, so that one figure can hold them.
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FAST_RATES = (0.01, 0.1, 1.0)
# The share of the epochs that a trial gets; an epoch of batch descent is a single update, and cheap.
SHARES = {"batch": 1 / 2, "stochastic": 1 / 20, "mini-batch": 1 / 10}


@dataclass(frozen=True)
class Trial:
    """One learning rate tried; `cost` is the validation cost at the end, None if it diverged."""

    COLUMNS: ClassVar = ("variant", "lr", "epochs", "cost")
    variant: str
    lr: float
    epochs: int
    cost: float | None

    @classmethod
    def of(cls, leg: Leg, outcome: Outcome) -> "Trial":
        """Judge a finished short training."""
        cost = None if outcome.diverged else outcome.points[-1]["validation_cost"]
        return cls(leg.variant, leg.lr, leg.epochs, cost)

    def row(self) -> dict[str, Any]:
        """Return a row of sweep.csv."""
        return asdict(self)


def legs(options: Options, variant: str) -> list[Leg]:
    """List the short trainings for one variant; none if its rate was given."""
    if variant in options.lr:
        return []
    epochs = max(1, round(options.epochs * SHARES[variant]))
    rates = FAST_RATES if options.fast else RATES
    return [Leg(f"sweep-{variant}-{lr:g}", variant, lr, epochs) for lr in rates]


def best(trials: list[Trial], variant: str) -> float | None:
    """Choose the rate of the lowest validation cost, the lowest if all diverged; None if none was tried."""
    own = [trial for trial in trials if trial.variant == variant]
    finite = [trial for trial in own if trial.cost is not None]
    return min(finite or own, key=lambda trial: (trial.cost or 0.0, trial.lr)).lr if own else None
