"""Batch, stochastic and mini-batch gradient descent as the optimizers of a LightningModule."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from torch_backprop.optim import Descent

try:
    from lightning.pytorch import LightningModule
    from lightning.pytorch.callbacks import GradientAccumulationScheduler
except ImportError as error:
    raise ImportError('DescentMixin needs Lightning: pip install "torch_backprop[lightning]"') from error


class DescentMixin(LightningModule):
    """Lets a LightningModule descend by BatchGD, StochasticGD or MiniBatchGD: derive from it first.

    Lightning calls `training_step` once for each group, or part of one, in the loader batch, and `take` gives
    it the rows. The open group is closed at the end of the epoch, before validation. Logged are ``updates``
    and ``examples_seen``, for ``trainer.global_step`` counts loader batches. ``on_train_batch_end`` gets the
    mean cost over the rows of the loader batch as ``outputs["loss"]``; in `training_step`, ``self.log`` sees
    one group at a time, so pass it ``batch_size=len(x)``. In manual optimization call, once per loader batch,
    ``self.optimizers().step(closure)`` with `take` and `manual_backward` in the closure.

    Example:
        >>> import torch
        >>> from lightning.pytorch import LightningModule
        >>> from torch_backprop.optim import MiniBatchGD
        >>> class Regression(DescentMixin, LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.model = torch.nn.Linear(3, 1)
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = self.take(*batch)
        ...         return torch.nn.functional.mse_loss(self.model(x), y)
        ...
        ...     def configure_optimizers(self):
        ...         return MiniBatchGD(self.parameters(), lr=0.1, batch_size=32)
    """

    def take(self, *rows: Any, weight: Any = None) -> tuple[Any, ...]:
        """Return those rows of the loader batch that belong to the open group; see `Descent.take`."""
        return self._descent().take(*rows, weight=weight)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Descend over the loader batch, and report the mean cost over its rows."""
        loss = None

        def closure() -> Any:
            nonlocal loss
            loss = optimizer_closure() if optimizer_closure else None
            return loss

        mean = optimizer.step(closure=closure)
        if loss is not None and mean is not None:
            # Lightning reports the tensor of the last call, which saw only the last rows.
            loss.copy_(mean)

    def on_fit_start(self) -> None:
        """Refuse what cannot work with groups that the optimizer forms.

        Raises:
            TypeError: if `configure_optimizers` returned no optimizer of torch_backprop.optim, or several.
            ValueError: naming the Trainer's argument that interferes, and what to use instead.
        """
        super().on_fit_start()
        trainer, descent = self.trainer, self._descent()
        clip, accumulate = trainer.gradient_clip_val, trainer.accumulate_grad_batches
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        schedulers = [
            callback for callback in callbacks if isinstance(callback, GradientAccumulationScheduler)
        ]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        # Each of these acts on the gradient of a part of a group, or calls step without a closure.
        refuse(clip, f"gradient_clip_val={clip}", "it clips parts of groups; give the optimizer max_norm")
        refuse(
            accumulate != 1, f"accumulate_grad_batches={accumulate}", "use MiniBatchGD with that batch_size"
        )
        refuse(schedulers, f"callbacks={schedulers}", "use MiniBatchGD with that batch_size")
        refuse(scaler, "precision='16-mixed'", "GradScaler takes no closure; use precision='bf16-mixed'")
        refuse(
            trainer.world_size > 1,
            f"devices={trainer.num_devices}",
            "groups form in one process; use devices=1",
        )
        self._hook = descent.register_step_post_hook(self._end_epoch_after_last_batch)

    def on_fit_end(self) -> None:
        """Leave the optimizer as it was found."""
        super().on_fit_end()
        self._hook.remove()

    def on_train_start(self) -> None:
        """Warn if the model has layers that make the trajectory depend on how groups are cut."""
        super().on_train_start()
        inexact = sorted({type(module).__name__ for module in self.modules() if couples_or_draws(module)})
        if inexact:
            warnings.warn(
                f"{', '.join(inexact)} in training mode: the trajectory depends on the loader's batch size,"
                " since these layers couple the rows of a forward pass or draw random numbers for it.",
                stacklevel=2,
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the counters."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        descent = self._descent()
        # Floats, for Lightning warns of integers.
        self.log("updates", float(descent.updates))
        self.log("examples_seen", float(descent.examples_seen))

    def _end_epoch_after_last_batch(self, descent: Any, *_: Any) -> None:
        # A hook of the step comes before any callback: what they validate or save has the last group in it.
        if self.trainer.training and self.trainer.is_last_batch:
            descent.end_epoch()

    def _descent(self) -> Descent:
        found = [optimizer for optimizer in self.trainer.optimizers if isinstance(optimizer, Descent)]
        if len(found) != 1:
            raise TypeError(
                f"configure_optimizers returned {len(found)} optimizers of torch_backprop.optim:"
                " DescentMixin needs exactly one BatchGD, StochasticGD or MiniBatchGD."
            )
        return found[0]


def refuse(conflict: object, argument: str, instead: str) -> None:
    """Raise where an argument of the Trainer is in conflict with groups that the optimizer forms.

    Raises:
        ValueError: if there is a `conflict`, naming the argument and what to use instead.
    """
    if conflict:
        raise ValueError(f"Trainer({argument}) cannot work with DescentMixin: {instead}.")


def couples_or_draws(module: nn.Module) -> bool:
    """Whether the output of `module` for a row depends on the other rows, or on random numbers."""
    rate = 0.0
    if isinstance(module, nn.modules.dropout._DropoutNd):
        rate = module.p
    elif isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        rate = module.dropout
    return module.training and (rate > 0 or isinstance(module, (nn.RReLU, nn.modules.batchnorm._BatchNorm)))
