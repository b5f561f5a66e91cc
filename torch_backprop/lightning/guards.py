"""What a Trainer may not do to groups that the optimizer forms."""

import warnings
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data.distributed import DistributedSampler

from torch_backprop.optim import Descent


def find_descent(trainer: Trainer) -> Descent:
    """Return the optimizer of this package that `trainer` works with.

    Raises:
        TypeError: if there is none, or several.
    """
    found = [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, Descent)]
    if len(found) != 1:
        raise TypeError(
            f"configure_optimizers returned {len(found)} optimizers of torch_backprop.optim:"
            " DescentMixin needs exactly one BatchGD, StochasticGD or MiniBatchGD."
        )
    return found[0]


def refuse_conflicts(trainer: Trainer, module: LightningModule) -> None:
    """Refuse what acts on the gradient of a part of a group, or keeps processes from waiting for one another.

    Raises:
        ValueError: naming the Trainer's argument that interferes, and what to use instead.
    """
    clip, accumulate = trainer.gradient_clip_val, trainer.accumulate_grad_batches
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    schedulers = [callback for callback in callbacks if isinstance(callback, GradientAccumulationScheduler)]
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    batches = "use MiniBatchGD with that batch_size"
    refuse(clip, f"gradient_clip_val={clip}", "it clips parts of groups; give the optimizer max_norm")
    refuse(accumulate != 1, f"accumulate_grad_batches={accumulate}", batches)
    refuse(schedulers, f"callbacks={schedulers}", batches)
    refuse(scaler, "precision='16-mixed'", "GradScaler takes no closure; use precision='bf16-mixed'")
    if trainer.world_size > 1:
        strategy = trainer.strategy
        parallel = isinstance(strategy, DDPStrategy)
        refuse(not parallel, f"strategy={type(strategy).__name__}", "parameters must be whole; use 'ddp'")
        synchronised = any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules())
        # Each of its forward passes would wait for processes that have no row in the group.
        refuse(synchronised, "sync_batchnorm=True", "processes run forward one by one; leave it out")


def refuse(conflict: object, argument: str, instead: str) -> None:
    """Raise where an argument of the Trainer is in conflict with groups that the optimizer forms.

    Raises:
        ValueError: if there is a `conflict`, naming the argument and what to use instead.
    """
    if conflict:
        raise ValueError(f"Trainer({argument}) cannot work with DescentMixin: {instead}.")


def warn_of_padding(trainer: Trainer) -> None:
    """Warn if the sampler of a training loader repeats or drops examples to make the processes even."""
    loaders = trainer.fit_loop._combined_loader
    for loader in loaders.flattened if loaders else ():
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler) and sampler.total_size != len(sampler.dataset):  # pyright: ignore[reportArgumentType]
            warnings.warn(
                f"DistributedSampler makes {sampler.total_size} examples of {len(sampler.dataset)}:"  # pyright: ignore[reportArgumentType]
                " set Trainer(use_distributed_sampler=False), DataLoader(batch_sampler=WindowSampler(...)).",
                stacklevel=2,
            )
