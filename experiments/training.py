"""One training by Lightning, from its start, or from a checkpoint of an earlier process, to its end."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from experiments import interrupt
from experiments.data.module import Data
from experiments.environment import device, quiet
from experiments.model.learner import Diverged, Learner, descent
from experiments.run import Run, replacing, set_aside
from experiments.study import Progress
from torch_backprop.optim.processes import OtherProcessError, gather, place

# Seconds from one checkpoint to the next: an epoch may last a hundredth of one.
KEEP = 1.0


class Notes:
    """What is noted of a training while it goes on; subclasses say what that is.

    Attributes:
        kept: All that was noted, in plain values and tensors, so that a checkpoint can hold it.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def begin(self) -> None:
        """Note the start."""

    def see(self, optimizer: Any) -> None:
        """Note what an update has come to."""


@dataclass(frozen=True)
class Training:
    """A model that is to see so many examples.

    Attributes:
        name: Of its checkpoint.
        learner: The model, at its start; its `descend` is the variant of descent.
        data: What it learns from.
        seed: Of the order of the examples.
        examples: Those it sees in all, if nothing ends it before.
    """

    name: str
    learner: Learner
    data: Data
    seed: int
    examples: int

    def fit(
        self, run: Run, notes: Notes, progress: Progress | None = None, callbacks: Sequence[Callback] = ()
    ) -> bool:
        """Train by Lightning on all processes that the run has, and leave no checkpoint behind.

        Args:
            run: Keeps the checkpoint, and says where to train.
            notes: What is to be noted; a training that goes on, goes on with what was noted before.
            progress: Told the share that is done, and the state in words.
            callbacks: Lightning's, beside.

        Returns:
            Whether the cost remained a finite number.
        """
        checkpoint = run.checkpoint(self.name)
        start = usable(run, self.name, self.learner, lambda found: found["_Watch"]["training"] == self.name)
        # The data module is shared by all trainings; its digests, its limit and its seed are not.
        self.data.order.begin(self.seed, self.examples)
        epochs = math.ceil(self.examples / self.data.order.examples)
        with quiet():
            trainer = trainer_of(run, epochs, [_Watch(self, run, notes, progress), *callbacks])
            path = str(checkpoint) if start else None
            finite = _finite(lambda: trainer.fit(self.learner, self.data, ckpt_path=path))
        if run.leads:
            checkpoint.unlink(missing_ok=True)
        return finite


def trainer_of(run: Run, epochs: int, callbacks: Sequence[Callback], logger: Any = False) -> Trainer:
    """Make a Trainer that works where the run's options say, and shows nothing by itself."""
    options = run.options.trainer
    return Trainer(
        **asdict(options),
        deterministic="warn" if device(options.accelerator) == "cuda" else None,
        max_epochs=epochs,
        # The order deals the rows out to the processes itself.
        use_distributed_sampler=False,
        # What is measured after an update is measured by a callback; Lightning's own loop cannot.
        limit_val_batches=0,
        logger=logger,
        # Lightning counts loader batches; what is logged is by examples seen.
        log_every_n_steps=0,
        callbacks=[*callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def keep(run: Run, name: str, trainer: Trainer) -> None:
    """Write a training's checkpoint; every process takes part, and the one that leads writes."""
    checkpoint = run.checkpoint(name)
    with replacing(checkpoint) if run.leads else nullcontext(checkpoint) as path:
        trainer.save_checkpoint(path)


def usable(
    run: Run, name: str, learner: Learner, same: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """Return a training's checkpoint, or None; one that it cannot go on from is set aside, and said.

    Args:
        run: Has it.
        name: The training's.
        learner: What is to go on.
        same: Whether the callbacks' states are those of this very training.
    """
    checkpoint = run.checkpoint(name)
    if not checkpoint.exists():
        return None
    try:
        found = torch.load(checkpoint, weights_only=True, map_location="cpu")
        shapes = {key: values.shape for key, values in found["state_dict"].items()}
        mine = {key: values.shape for key, values in learner.state_dict().items()}
        if same(found["callbacks"]) and shapes == mine:
            return found
        why = "is of another training"
    # Unpickling what is no checkpoint can raise anything at all.
    except Exception as error:
        why = f"cannot be read ({type(error).__name__})"
    if run.leads:
        sys.stderr.write(
            f"{checkpoint.name} {why}: kept as {set_aside(checkpoint).name}; {name} starts anew.\n"
        )
    return None


class _Watch(Checkpoint):
    """Has updates noted, tells how far a training is, and keeps checkpoints.

    A Lightning `Checkpoint`, because those alone are called after the module's own end of epoch, where
    DescentMixin closes the last group.
    """

    def __init__(self, training: Training, run: Run, notes: Notes, progress: Progress | None) -> None:
        self.training, self.run, self.notes, self.progress = training, run, notes, progress
        self.written = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"training": self.training.name, "notes": self.notes.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.notes.kept = state_dict["notes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizer = descent(trainer)
        optimizer.register_update_hook(self.notes.see)
        if not optimizer.updates:
            self.notes.begin()
        self.written = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Autograd and destructors run Python too, and not all of them let an exception out.
        interrupt.check()
        if self.progress:
            share = descent(trainer).examples_seen / self.training.examples
            self.progress(share, f"cost {outputs['loss'].item():.4g}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = time.perf_counter() - self.written > KEEP
        # What one process does all have to do, and their clocks differ.
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            keep(self.run, self.training.name, trainer)
            self.written = time.perf_counter()


def _finite(fit: Callable[[], None]) -> bool:
    try:
        fit()
    # Not an error: it is what this rate does.
    except (Diverged, OtherProcessError):
        # A process that failed otherwise is not here to be asked, and its end becomes that of the others.
        if place()[1] > 1:
            gather(0, torch.device("cpu"))
        return False
    return True
