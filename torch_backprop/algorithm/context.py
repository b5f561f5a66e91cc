"""What a rule sees of the world while a tape records it: the ctx of autograd, without autograd."""

from __future__ import annotations

from typing import Any

from torch import Tensor

MODIFIED = (
    "{name} kept a tensor of shape {shape} for its backward pass, and it has been written into since:"
    " compute out of place, or write into a clone."
)


class Residual:
    """A tensor kept for the backward pass, and how often it had been written into by then."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.version = _version(tensor)

    def check(self, name: str) -> None:
        """Holds it to what it was.

        Raises:
            RuntimeError: it has been written into since it was kept for the operation ``name``.
        """
        if _version(self.tensor) != self.version:
            raise RuntimeError(MODIFIED.format(name=name, shape=tuple(self.tensor.shape)))


def _version(tensor: Tensor) -> int:
    # what inference mode made is not counted
    return 0 if tensor.is_inference() else tensor._version


class Context:
    """The ``ctx`` of one call of a rule; the rule may set attributes of its own.

    Args:
        needs_input_grad: of each argument, whether its gradient is needed.

    Attributes:
        residuals: what ``save_for_backward`` kept.
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.residuals: tuple[Residual | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        self._materializes = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs and outputs."""
        self.residuals = tuple(None if tensor is None else Residual(tensor) for tensor in tensors)

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keeps nothing: a tape has no forward mode."""

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept."""
        return tuple(None if residual is None else residual.tensor for residual in self.residuals)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """These inputs are overwritten by outputs."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These outputs are constants."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether a missing cotangent comes as zeros, or as None."""
        self._materializes = value
