"""One training from start to end, or from a checkpoint to the end, by Lightning."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger

from experiments.compare.contender import Contender
from experiments.compare.measurement import Limit, Measurement, Outcome, Progress
from experiments.compare.options import Options
from experiments.data.module import Data
from experiments.environment import quiet
from experiments.model.learner import Diverged, Learner
from experiments.run import Run
from experiments.training import keep, trainer_of, usable
from torch_backprop.optim.processes import OtherProcessError, gather, place


@dataclass(frozen=True)
class Leg:
    """One training: a contender at one learning rate, from one start.

    Attributes:
        name: Names its checkpoint, and its TensorBoard events if `events`.
    """

    name: str
    contender: Contender
    lr: float
    seed: int
    limit: Limit
    events: bool = False

    def began(self, callbacks: dict[str, Any]) -> bool:
        """Whether a checkpoint's callbacks are those of this training."""
        outcome = callbacks["Measurement"]["outcome"]
        return (outcome["name"], outcome["lr"], outcome["seed"]) == (self.contender.name, self.lr, self.seed)


def train(leg: Leg, data: Data, run: Run, outcome: Outcome, progress: Progress) -> None:
    """Train one model into `outcome`, which is up to date also when this is interrupted.

    Starts from the leg's checkpoint if there is one, and leaves one at the end.
    """
    learner, checkpoint = learner_for(run.options, data, leg.seed), run.checkpoint(leg.name)
    learner.descend = leg.contender.optimizer(leg.lr)
    start = usable(run, leg.name, learner, leg.began)
    # The data module is shared by all trainings; its digests, its limit and its seed are not.
    data.order.begin(leg.seed, leg.limit.examples)
    epochs = math.ceil(leg.limit.examples / data.order.examples) if leg.limit.examples else -1
    measurement = Measurement(outcome, data, leg.limit, progress, partial(keep, run, leg.name))
    with quiet():
        trainer = trainer_of(run, epochs, [measurement], _logger(leg, run, start))
        try:
            trainer.fit(learner, datamodule=data, ckpt_path=str(checkpoint) if start else None)
            outcome.score = trainer.test(learner, datamodule=data, verbose=False)[0]["test/score"]
        # Not an error: it is what this rate does, and the other trainings go on.
        except (Diverged, OtherProcessError) as stop:
            outcome.last_finite_update = _last_finite(outcome, stop)
    outcome.finished = True


def learner_for(options: Options, data: Data, seed: int) -> Learner:
    """Make the model that the options ask for, at its start."""
    sizes = asdict(options.model)
    return Learner(**sizes, shape=data.shape, outputs=data.outputs, regression=data.regression, seed=seed)


def _last_finite(outcome: Outcome, stop: Exception) -> int:
    """Return the last finite update that any process knows of, or else the last that was measured."""
    own = stop.last_finite_update if isinstance(stop, Diverged) else -1
    if place()[1] == 1:
        return own
    # A process that failed otherwise is not here to be asked, and its end becomes that of the others.
    found = max(gather(own + 1, torch.device("cpu"))) - 1
    return found if found >= 0 else outcome.points[-1]["updates"]


def _logger(leg: Leg, run: Run, start: dict[str, Any] | None) -> TensorBoardLogger | bool:
    """Make the TensorBoard writer, which drops what an interrupted process wrote after its checkpoint."""
    if not leg.events:
        return False
    purge = start["callbacks"]["Measurement"]["outcome"]["points"][-1]["examples"] + 1 if start else None
    return TensorBoardLogger(
        run.folder, name="events", version=leg.name, purge_step=purge, default_hp_metric=False
    )
