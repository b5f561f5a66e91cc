"""Callbacks that look at a descent: whether it has converged, and how its gradients flow."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from torch_backprop.lightning.guards import find_descent
from torch_backprop.optim.arguments import check_count
from torch_backprop.optim.open_group import Gradients


class StopWhenConverged(Callback):
    """Ends the training with the epoch in which ``optimizer.converged`` turns True.

    For BatchGD, and for StochasticGD with ``schedule="adaptive"``.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an optimizer that cannot tell.

        Raises:
            TypeError: if it has no `converged`.
        """
        descent = find_descent(trainer)
        if getattr(descent, "converged", None) is None:
            raise TypeError(
                f"StopWhenConverged needs an optimizer that can tell: {type(descent).__name__} as configured"
                ' cannot; use BatchGD, or StochasticGD(schedule="adaptive").'
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the optimizer."""
        descent: Any = find_descent(trainer)
        trainer.should_stop = trainer.should_stop or descent.converged


class GradientFlow(Callback):
    """Logs for each layer the norm of its gradient, and the size of its update relative to its parameters.

    The entries ``gradient_norm/LAYER`` and ``update_ratio/LAYER``, ||change of theta|| / ||theta||, go to the
    loggers with the number of updates as their step.

    Args:
        every: number of updates from one entry to the next. Each costs a copy of the parameters.

    Raises:
        ValueError: if `every` is no whole number of at least 1.
    """

    def __init__(self, every: int = 50) -> None:
        check_count("every", every)
        self.every = every
        self._before: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._norms: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Be called before and after every update from here on."""
        descent, layers = find_descent(trainer), _layers(pl_module)

        def before(_: Any, gradients: Gradients) -> None:
            # The update under way is not counted yet.
            if (descent.updates + 1) % self.every == 0:
                self._look(layers, gradients)

        # Of a training that was interrupted, which Lightning does not end: its optimizer may be this one.
        self.on_train_end(trainer, pl_module)
        self._hooks = [
            descent.register_update_pre_hook(before),
            descent.register_update_hook(lambda _: self._log(trainer, descent.updates)),
        ]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the optimizer as it was found."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _look(self, layers: dict[str, list[Tensor]], gradients: Gradients) -> None:
        for name, parameters in layers.items():
            found = [gradients[theta] for theta in parameters if theta in gradients]
            if found:
                self._norms[name] = joint_norm(found)
                self._before[name] = [(theta, theta.clone()) for theta in parameters]

    @torch.no_grad()
    def _log(self, trainer: Trainer, updates: int) -> None:
        entries = {}
        for name, pairs in self._before.items():
            change = joint_norm([theta - old for theta, old in pairs])
            entries[f"gradient_norm/{name}"] = self._norms[name].item()
            entries[f"update_ratio/{name}"] = (change / joint_norm([old for _, old in pairs])).item()
        self._before, self._norms = {}, {}
        # Not by self.log, whose step is that of loader batches.
        for logger in trainer.loggers if entries else ():
            logger.log_metrics(entries, step=updates)


def joint_norm(tensors: list[Tensor]) -> Tensor:
    """Return the 2-norm of all elements of `tensors` together."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))


def _layers(module: torch.nn.Module) -> dict[str, list[Tensor]]:
    """Return the parameters that belong to each layer directly, by its name."""
    found: dict[str, list[Tensor]] = {}
    for name, theta in module.named_parameters():
        found.setdefault(name.rpartition(".")[0] or type(module).__name__, []).append(theta)
    return found
