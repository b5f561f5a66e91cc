"""What is measured while a model trains, on a clock that runs only while it trains."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from experiments import interrupt
from experiments.data.module import Data
from experiments.model.learner import Diverged, Learner, descent

# Takes the share of the budget that is spent, the epochs done and the cost just seen.
Progress = Callable[[float, float, float], None]
QUANTITIES = ("cost", "validation_cost", "validation_score")
COLUMNS = ("variant", "seed", "epoch", "updates", "examples", "seconds", *QUANTITIES)
# Between two epochs' ends the first epoch is measured at these updates, for logarithmic axes.
EARLY = frozenset(round(2 ** (half / 2)) for half in range(64))
# So many epochs' ends are measured one by one, and later ones ever farther apart.
EPOCHS = 50
LATE = frozenset(round(EPOCHS * 2 ** (eighth / 8)) for eighth in range(256))
# Seconds from one checkpoint to the next: an epoch may last a hundredth of one.
KEEP = 1.0


@dataclass
class Outcome:
    """What a training has come to so far.

    Attributes:
        name: The contender's.
        points: Measurements in order; `seconds` are those spent training, and nothing else.
        unit: Of the costs.
        start: Digest of the initial parameters.
        orders: Digest of the order in which each epoch's examples were served.
        score: Test accuracy, or R2; None until the end.
        last_finite_update: Set if the cost ceased to be finite.
    """

    name: str
    seed: int
    lr: float
    points: list[dict[str, Any]] = field(default_factory=list)
    unit: str = ""
    start: str = ""
    orders: list[str] = field(default_factory=list)
    score: float | None = None
    last_finite_update: int | None = None
    finished: bool = False

    @property
    def diverged(self) -> bool:
        """Whether the cost ceased to be finite."""
        return self.last_finite_update is not None

    @property
    def sound(self) -> bool:
        """Whether it came to its end, and to a finite cost."""
        return self.finished and not self.diverged


@dataclass(frozen=True)
class Limit:
    """When a training ends: after so many examples, or seconds."""

    examples: int | None = None
    seconds: float = math.inf

    def spent(self, examples: int, seconds: float) -> float:
        """Return the share of the budget that is spent."""
        return examples / self.examples if self.examples else min(1.0, seconds / self.seconds)


class Measurement(Checkpoint):
    """Measures cost and score after chosen updates, and keeps checkpoints at epochs' ends.

    A Lightning `Checkpoint`, because those alone are called after the module's own end of epoch, where
    DescentMixin closes the last group. Its clock stands still while it measures or writes.
    """

    def __init__(
        self, outcome: Outcome, data: Data, limit: Limit, progress: Progress, keep: Callable[[Trainer], None]
    ) -> None:
        self.outcome, self.data, self.limit = outcome, data, limit
        self.progress, self.keep = progress, keep
        self.seconds, self.resumed, self.kept = 0.0, 0.0, -math.inf

    def state_dict(self) -> dict[str, Any]:
        """Keep the outcome and the clock in checkpoints."""
        return {"outcome": asdict(self.outcome), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's outcome and clock."""
        self.seconds = state_dict["seconds"]
        # In place, since whoever started the training holds the same outcome.
        vars(self.outcome).update(state_dict["outcome"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the start, and be called after every update from here on."""
        descent(trainer).register_update_hook(lambda _: self._after_update(trainer))
        if not self.outcome.points:
            self.outcome.unit, self.outcome.start = cast(Learner, pl_module).unit, digest(pl_module)
            self._measure(trainer)
        self.resumed = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, log the cost once for each loader batch, and stop when the time is spent."""
        # Autograd and destructors run Python too, and not all of them let an exception out.
        interrupt.check()
        seen, cost = descent(trainer).examples_seen, outputs["loss"].item()
        spent = self.seconds + time.perf_counter() - self.resumed
        self.progress(self.limit.spent(seen, spent), seen / self.data.order.examples, cost)
        trainer.should_stop = trainer.should_stop or _any(trainer, spent >= self.limit.seconds)
        # By examples seen, which the variants have in common. Straight to the logger: self.log takes 0.4 ms.
        for logger in trainer.loggers:
            logger.log_metrics({"cost_while_training": cost}, step=seen)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep a checkpoint, unless there is one of just now."""
        self._pause()
        # An epoch that was begun before a stop is served again after it, so the digests are kept by epoch.
        served = self.data.order.served
        self.outcome.orders = [served[epoch] for epoch in sorted(served)]
        seen = descent(trainer).examples_seen
        ends = trainer.should_stop or seen == self.limit.examples
        if ends and self.outcome.points[-1]["updates"] < descent(trainer).updates:
            self._measure(trainer)
        if _any(trainer, ends or time.perf_counter() - self.kept > KEEP):
            self.keep(trainer)
            self.kept = time.perf_counter()
        self.resumed = time.perf_counter()

    def _after_update(self, trainer: Trainer) -> None:
        optimizer, examples = descent(trainer), self.data.order.examples
        epoch, rest = divmod(optimizer.examples_seen, examples)
        late = rest == 0 and (epoch <= EPOCHS or epoch in LATE)
        early = epoch == 0 and optimizer.updates in EARLY
        if late or early or optimizer.examples_seen == self.limit.examples:
            self._pause()
            self._measure(trainer)
            self.resumed = time.perf_counter()

    def _measure(self, trainer: Trainer) -> None:
        module, optimizer = cast(Learner, trainer.lightning_module), descent(trainer)
        train, validation = self.data.parts["train"], self.data.parts["validation"]
        cost, _ = module.measure(train.x, train.y)
        val_cost, score = module.measure(validation.x, validation.y)
        if not math.isfinite(cost + val_cost):
            raise Diverged(optimizer.updates)
        seen = optimizer.examples_seen
        epoch, values = round(seen / self.data.order.examples, 6), (cost, val_cost, score)
        place = self.outcome.name, self.outcome.seed, epoch, optimizer.updates, seen, round(self.seconds, 6)
        self.outcome.points.append(dict(zip(COLUMNS, place + values, strict=True)))
        for logger in trainer.loggers:
            logger.log_metrics(dict(zip(QUANTITIES, values, strict=True)), step=seen)

    def _pause(self) -> None:
        now = time.perf_counter()
        self.seconds, self.resumed = self.seconds + now - self.resumed, now


def _any(trainer: Trainer, decision: bool) -> bool:
    """Whether any process decides so; clocks differ, and what is decided all have to do."""
    return trainer.strategy.reduce_boolean_decision(decision, all=False)


def digest(module: torch.nn.Module) -> str:
    """Return a digest of the parameters, bit by bit."""
    content = sha256()
    for name, values in sorted(module.state_dict().items()):
        content.update(name.encode() + values.cpu().numpy().tobytes())
    return content.hexdigest()[:12]


def start_and_order(outcomes: Iterable[Outcome]) -> tuple[str, str]:
    """Return the digests of start and order of the first seed; those of one seed must agree.

    The order is compared over the epochs that two trainings have both served whole.

    Raises:
        RuntimeError: If they differ.
    """
    seeds: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        seeds.setdefault(outcome.seed, []).append(outcome)
    found = [_agreed(group) for _, group in sorted(seeds.items())]
    return found[0] if found else ("not yet taken", "not yet taken")


def _agreed(outcomes: list[Outcome]) -> tuple[str, str]:
    orders = max((outcome.orders for outcome in outcomes), key=len, default=[])
    starts = {outcome.start for outcome in outcomes if outcome.start}
    if len(starts) > 1 or any(outcome.orders != orders[: len(outcome.orders)] for outcome in outcomes):
        raise RuntimeError("the variants were not given the same start and the same order of examples")
    order = sha256("".join(orders).encode()).hexdigest()[:12]
    return "".join(starts) or "not yet taken", order if orders else "not yet taken"
