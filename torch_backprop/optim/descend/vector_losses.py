"""Losses of one example: dL/dy from the output y, and afterwards the costs of many examples at once."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop import functional, nn
from torch_backprop.optim.descend.settings import allow


class CrossEntropy:
    """Class indices: dL/dy = p - a, p = softmax(y) and a the smoothed indicator of the class."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def prepare(self, g: Tensor, targets: Tensor) -> list[Tensor]:
        """Return a for each example, if g is like dL/dy."""
        outputs = g.shape[1]
        allow(targets.dim() == 1 and targets.dtype == torch.int64, "it takes class indices")
        within = bool(((targets >= 0) & (targets < outputs)).all())
        allow(within, f"it takes classes from 0 to {outputs - 1} only")
        self.a = torch.eye(outputs, dtype=g.dtype, device=g.device)
        self.a.mul_(1 - self.smoothing).add_(self.smoothing / outputs)
        # One for each class: to take a row from a tensor costs more than to find it in a list.
        rows = self.a.split(1)
        return [rows[target] for target in targets.tolist()]

    def gradient(self, y: Tensor, a: Tensor, g: Tensor) -> None:
        """Put dL/dy of one example into g."""
        torch.softmax(y, 1, out=g)
        g.sub_(a)

    def costs(self, y: Tensor, targets: Tensor) -> Tensor:
        """Return the costs of some examples."""
        # Along columns it takes an eighth of the time.
        return -torch.log_softmax(y.t().contiguous(), 0).mul_(self.a[targets].t()).sum(0)


class SquaredError:
    """dL/dy = c (y - t), c = 2 or 2 / the number of outputs."""

    def __init__(self, mean: bool) -> None:
        self.mean = mean

    def prepare(self, g: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the target of each example, if g is like dL/dy."""
        outputs = g.shape[1]
        fits = targets.shape[1:] == (outputs,) and targets.dtype == g.dtype
        allow(fits, f"it takes targets of shape (N, {outputs}) in {g.dtype}")
        self.factor = 1 / outputs if self.mean else 1.0
        return list(targets.unsqueeze(1).unbind())

    def gradient(self, y: Tensor, t: Tensor, g: Tensor) -> None:
        """Put dL/dy of one example into g."""
        torch.sub(y, t, out=g)
        g.mul_(2 * self.factor)

    def costs(self, y: Tensor, targets: Tensor) -> Tensor:
        """Return the costs of some examples."""
        return (y - targets).square_().sum(1).mul_(self.factor)


Loss = CrossEntropy | SquaredError

FUNCTIONS = {
    functional.cross_entropy: nn.CrossEntropyLoss(),
    F.cross_entropy: nn.CrossEntropyLoss(),
    functional.mse_loss: nn.MSELoss(),
    F.mse_loss: nn.MSELoss(),
}


def vector_loss(loss: Any) -> Loss:
    """Return the loss of one example for a module or a function.

    Raises:
        Refused: if it is another loss, or weighs classes.
    """
    loss = FUNCTIONS.get(loss, loss)
    allow(getattr(loss, "reduction", "") in ("mean", "sum"), "it knows CrossEntropyLoss and MSELoss")
    forward = type(loss).forward
    if forward in (nn.CrossEntropyLoss.forward, torch.nn.CrossEntropyLoss.forward):
        allow(loss.weight is None, "it weighs no classes")
        return CrossEntropy(loss.label_smoothing)
    allow(forward in (nn.MSELoss.forward, torch.nn.MSELoss.forward), "it knows CrossEntropyLoss and MSELoss")
    return SquaredError(loss.reduction == "mean")
