"""One training from start to end, or from a checkpoint to the end, by Lightning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from experiments.data import Table
from experiments.measurement import Measurement, Outcome, Progress
from experiments.model import Diverged, Learner
from experiments.run import Run, replacing


@dataclass(frozen=True)
class Leg:
    """One training: a variant at one learning rate for some epochs.

    Attributes:
        name: Names its checkpoint, and its TensorBoard events if `events`.
    """

    name: str
    variant: str
    lr: float
    epochs: int
    events: bool = False


def train(leg: Leg, data: Table, run: Run, outcome: Outcome, progress: Progress) -> None:
    """Train one model into `outcome`, which is up to date also when this is interrupted.

    Starts from the leg's checkpoint if there is one, and leaves one at the end.
    """
    options, checkpoint = run.options, run.checkpoint(leg.name)
    accelerator = device(options.accelerator)
    shape = options.model, data.features, data.outputs
    learner = Learner(*shape, leg.variant, leg.lr, options.batch_size, options.seed, data.regression)

    def keep(trainer: Trainer) -> None:
        with replacing(checkpoint) as path:
            trainer.save_checkpoint(path)

    # The data module is shared by all trainings, its digests are not.
    data.order.served = {}
    with quiet():
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            deterministic="warn" if accelerator == "cuda" else None,
            max_epochs=leg.epochs,
            # Measurement validates after chosen updates, which Lightning's own loop cannot.
            limit_val_batches=0,
            logger=_logger(leg, run),
            # Lightning counts loader batches; Measurement logs by examples seen.
            log_every_n_steps=0,
            callbacks=[Measurement(outcome, data, progress, keep)],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(learner, datamodule=data, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
            outcome.score = trainer.test(learner, datamodule=data, verbose=False)[0]["test/score"]
        # Not an error: it is what this rate does, and the other trainings go on.
        except Diverged as stop:
            outcome.last_finite_update = stop.last_finite_update
    outcome.finished = True


def device(accelerator: str) -> str:
    """Say which device an accelerator stands for on this machine.

    >>> device("cpu")
    'cpu'
    """
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return automatic if accelerator == "auto" else accelerator


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's banners and advice off the terminal."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _logger(leg: Leg, run: Run) -> TensorBoardLogger | bool:
    """Make the TensorBoard writer, which drops what an interrupted process wrote after its checkpoint."""
    if not leg.events:
        return False
    checkpoint, purge = run.checkpoint(leg.name), None
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)["callbacks"]["Measurement"]["outcome"]
        purge = kept["points"][-1]["examples"] + 1
    return TensorBoardLogger(
        run.folder, name="events", version=leg.name, purge_step=purge, default_hp_metric=False
    )
