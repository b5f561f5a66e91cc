"""Batch, stochastic and mini-batch gradient descent as the optimizers of a LightningModule."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

from lightning.pytorch import LightningModule
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import Metric

from torch_backprop.lightning.guards import find_descent, refuse_conflicts, warn_of_padding


class DescentMixin(LightningModule):
    """Lets a LightningModule descend by BatchGD, StochasticGD or MiniBatchGD: derive from it first.

    Lightning calls `training_step` once for each group, or part of one, in the loader batch, and `take` gives
    it the rows. The open group is closed at the end of the epoch, before validation. Logged are ``updates``
    and ``examples_seen``, for ``trainer.global_step`` counts loader batches. ``on_train_batch_end`` gets the
    mean cost over the rows of the loader batch as ``outputs["loss"]``; in `training_step`, ``self.log`` sees
    one group at a time, so pass it ``batch_size=len(x)``. In manual optimization call, once per loader batch,
    ``self.optimizers().step(closure)`` with `take` and `manual_backward` in the closure.

    With several processes use ``Trainer(strategy="ddp", use_distributed_sampler=False)`` and
    ``DataLoader(batch_sampler=WindowSampler(...))``, which neither repeats nor drops an example.

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

    _hooks: Any = ()

    def take(self, *rows: Any, weight: Any = None) -> tuple[Any, ...]:
        """Return those rows of the loader batch that belong to the open group; see `Descent.take`."""
        return find_descent(self.trainer).take(*rows, weight=weight)

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
        descent = find_descent(self.trainer)
        refuse_conflicts(self.trainer, self)
        # Of a fit that was interrupted, which Lightning does not end: its optimizer may be this one.
        self._remove_hooks()
        descent.set_quiet(self._without_log)
        self._hooks = [
            descent.register_step_pre_hook(self._hold_exchange),
            descent.register_step_post_hook(self._end_epoch_after_last_batch),
        ]

    def on_fit_end(self) -> None:
        """Leave the optimizer as it was found."""
        super().on_fit_end()
        find_descent(self.trainer).set_quiet(None)
        self._remove_hooks()

    def on_train_start(self) -> None:
        """Warn if a sampler repeats or drops examples."""
        super().on_train_start()
        warn_of_padding(self.trainer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the counters."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        descent = find_descent(self.trainer)
        # Floats, for Lightning warns of integers.
        self.log("updates", float(descent.updates))
        self.log("examples_seen", float(descent.examples_seen))

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hold_exchange(self, *_: Any) -> None:
        # In manual optimization the model's own forward pass has begun before the step.
        model: Any = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = False

    def _end_epoch_after_last_batch(self, descent: Any, *_: Any) -> None:
        model: Any = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = True
        # A hook of the step comes before any callback: what they validate or save has the last group in it.
        if self.trainer.training and self.trainer.is_last_batch:
            descent.end_epoch()

    @contextmanager
    def _without_log(self) -> Iterator[None]:
        """Keep what `training_step` does at other parameters out of the log and out of the metrics."""
        # Instance attributes hide the methods for the while.
        metrics = [module for module in self.modules() if isinstance(module, Metric)]
        kept = [(copy(vars(metric)), deepcopy(metric.metric_state)) for metric in metrics]
        vars(self)["log"] = vars(self)["log_dict"] = lambda *_, **__: None
        try:
            yield
        finally:
            del vars(self)["log"], vars(self)["log_dict"]
            for metric, (plain, state) in zip(metrics, kept, strict=True):
                vars(metric).update(plain)
                for name, value in state.items():
                    setattr(metric, name, value)
