"""Learning rates found by trial and error: a short training at each, the lowest validation cost wins."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from experiments.compare.contender import Contender
from experiments.compare.measurement import Limit, Outcome
from experiments.compare.options import EPOCHS, Options
from experiments.compare.train import Leg

# Half decades over all that the three variants want, so that one figure can hold them.
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FAST_RATES = (0.01, 0.1, 1.0)
# The share of the epochs that a trial gets; an epoch of batch descent is a single update, and cheap.
SHARES = {"batch": 1 / 2, "stochastic": 1 / 20, "mini-batch": 1 / 10}
# A budget of many updates would make of every trial of batch descent a training of its own.
MOST = 50


@dataclass(frozen=True)
class Trial:
    """One learning rate tried; `cost` is the validation cost at the end, None if it diverged."""

    COLUMNS: ClassVar = ("name", "lr", "epochs", "cost")
    name: str
    lr: float
    epochs: int
    cost: float | None

    @classmethod
    def of(cls, outcome: Outcome, epochs: int) -> "Trial":
        """Judge a finished short training."""
        cost = None if outcome.diverged else outcome.points[-1]["validation_cost"]
        return cls(outcome.name, outcome.lr, epochs, cost)

    def row(self) -> dict[str, Any]:
        """Return a row of sweep.csv."""
        return asdict(self)


def given(options: Options, contender: Contender) -> float | None:
    """Return the rate that was given for a contender, by its own name before its variant's."""
    return options.lr.get(contender.key, options.lr.get(contender.variant))


def legs(options: Options, contender: Contender, examples: int) -> list[Leg]:
    """List the short trainings for one contender; none if its rate was given."""
    if given(options, contender):
        return []
    seen = contender.budget(options, examples) or EPOCHS * examples
    epochs = min(MOST, max(1, round(seen / examples * SHARES[contender.variant])))
    limit = Limit(epochs * examples)
    rates = FAST_RATES if options.fast else RATES
    return [Leg(f"sweep-{contender.key}-{lr:g}", contender, lr, options.seed, limit) for lr in rates]


def best(trials: list[Trial], name: str) -> float | None:
    """Choose the rate of the lowest validation cost, the lowest if all diverged; None if none was tried."""
    own = [trial for trial in trials if trial.name == name]
    finite = [trial for trial in own if trial.cost is not None]
    return min(finite or own, key=lambda trial: (trial.cost or 0.0, trial.lr)).lr if own else None
