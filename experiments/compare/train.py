"""One training from start to end, or from a checkpoint to the end, by Lightning."""

import math
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from experiments.compare.contender import Contender
from experiments.compare.measurement import Limit, Measurement, Outcome, Progress
from experiments.compare.options import Options
from experiments.data.module import Data
from experiments.environment import device, quiet
from experiments.model.learner import Diverged, Learner
from experiments.run import Run, replacing, set_aside
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


def train(leg: Leg, data: Data, run: Run, outcome: Outcome, progress: Progress) -> None:
    """Train one model into `outcome`, which is up to date also when this is interrupted.

    Starts from the leg's checkpoint if there is one, and leaves one at the end.
    """
    checkpoint, learner = run.checkpoint(leg.name), learner_for(run.options, data, leg.seed)
    learner.descend = leg.contender.optimizer(leg.lr)
    start = _usable(checkpoint, leg, learner)

    def keep(trainer: Trainer) -> None:
        # Every process takes part, and the one that leads writes.
        with replacing(checkpoint) if run.leads else nullcontext(checkpoint) as path:
            trainer.save_checkpoint(path)

    # The data module is shared by all trainings; its digests, its limit and its seed are not.
    data.order.begin(leg.seed, leg.limit.examples)
    epochs = math.ceil(leg.limit.examples / data.order.examples) if leg.limit.examples else -1
    with quiet():
        trainer = Trainer(
            **asdict(run.options.trainer),
            deterministic="warn" if device(run.options.trainer.accelerator) == "cuda" else None,
            max_epochs=epochs,
            # The order deals the rows out to the processes itself.
            use_distributed_sampler=False,
            # Measurement validates after chosen updates, which Lightning's own loop cannot.
            limit_val_batches=0,
            logger=_logger(leg, run, start),
            # Lightning counts loader batches; Measurement logs by examples seen.
            log_every_n_steps=0,
            callbacks=[Measurement(outcome, data, leg.limit, progress, keep)],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
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


def _usable(checkpoint: Path, leg: Leg, learner: Learner) -> dict[str, Any] | None:
    """Return a checkpoint of this very training; what is no such thing is set aside, and said."""
    if not checkpoint.exists():
        return None
    try:
        found = torch.load(checkpoint, weights_only=True, map_location="cpu")
        outcome, shapes = found["callbacks"]["Measurement"]["outcome"], found["state_dict"]
        mine = {name: values.shape for name, values in learner.state_dict().items()}
        same = (outcome["name"], outcome["lr"], outcome["seed"]) == (leg.contender.name, leg.lr, leg.seed)
        if same and mine == {name: values.shape for name, values in shapes.items()}:
            return found
        why = "is of another training"
    # Unpickling what is no checkpoint can raise anything at all.
    except Exception as error:
        why = f"cannot be read ({type(error).__name__})"
    sys.stderr.write(
        f"{checkpoint.name} {why}: kept as {set_aside(checkpoint).name}; {leg.name} starts anew.\n"
    )
    return None


def _logger(leg: Leg, run: Run, start: dict[str, Any] | None) -> TensorBoardLogger | bool:
    """Make the TensorBoard writer, which drops what an interrupted process wrote after its checkpoint."""
    if not leg.events:
        return False
    purge = start["callbacks"]["Measurement"]["outcome"]["points"][-1]["examples"] + 1 if start else None
    return TensorBoardLogger(
        run.folder, name="events", version=leg.name, purge_step=purge, default_hp_metric=False
    )
