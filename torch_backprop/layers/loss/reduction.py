"""Reductions of a loss over its elements, and what they do to the gradient that comes from above.

They serve the derivations in ``loss``, where u is what a reduction sends to an element.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import _reduction

REDUCTIONS = ("none", "mean", "sum")
"""The names that every loss takes."""


def resolve(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction's name, from torch's deprecated flags or name if they are given, with torch's warning."""
    reduction = flagged(size_average, reduce, reduction)
    if reduction == "elementwise_mean":
        _reduction.get_enum(reduction)
        return "mean"
    return reduction


def flagged(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction's name, from torch's deprecated flags alone if they are given, with torch's warning."""
    if size_average is None and reduce is None:
        return reduction
    return _reduction.legacy_get_string(size_average, reduce)


def reduced(losses: Tensor, reduction: str, total: Tensor | float) -> Tensor:
    """``losses`` as they are, their sum, or their sum over ``total``."""
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / total


def whole(losses: Tensor, reduction: str) -> Tensor:
    """``losses`` as they are, their sum, or their mean; torch's error for another name."""
    _reduction.get_enum(reduction)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


def spread(grad_y: Tensor, reduction: str, total: Tensor | float) -> Tensor:
    """The gradient that reaches each element's loss: the transpose of :func:`reduced`."""
    return grad_y / total if reduction == "mean" else grad_y


def sum_to(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums over the dimensions along which an argument of ``shape`` was broadcast."""
    return tensor if tensor.shape == shape else tensor.sum_to_size(shape)
