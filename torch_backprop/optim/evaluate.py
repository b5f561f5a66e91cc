"""The cost and gradients of one slice of rows, by a function of the rows or by a closure that takes them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode

from torch_backprop.optim.open_group import Gradients
from torch_backprop.optim.taped import Taped

# What looks at a cost before its backward runs, while its graph is still there.
Look = Callable[[Tensor], None]


@dataclass(frozen=True)
class Cost:
    """A function cost(*rows) of any of the rows, and how they are handed out."""

    function: Callable[..., Any]
    take: Callable[[], tuple[Any, ...]]

    def gradients(self, parameters: list[Tensor], look: Look | None) -> tuple[Tensor, Gradients]:
        """Return the cost of the window's rows and its gradients, and leave ``.grad`` alone.

        Raises:
            TypeError: if the cost is no tensor.
            ValueError: if the cost is no scalar, or depends on no parameter.
            RuntimeError: if a gradient is sparse.
        """
        if isinstance(self.function, Taped):
            value, gradients = self.function.gradients(*self.take())
            return value, used((theta, gradients.get(theta)) for theta in parameters)
        value = self.function(*self.take())
        if not isinstance(value, Tensor):
            raise TypeError(f"cost returned a {type(value).__name__}: it must return a scalar tensor.")
        if value.dim() != 0:
            raise ValueError(
                f"cost returned shape {tuple(value.shape)}: reduce it to a scalar, for example by .mean()."
            )
        if not value.requires_grad:
            raise ValueError(
                "cost returned a tensor without grad: compute it from the parameters, not under no_grad."
            )
        if look:
            look(value)
        # Not value.backward(): that would add to the .grad of the user, of these parameters and others.
        return value.detach(), used(zip(parameters, differentiated(value, parameters), strict=True))

    @torch.no_grad()
    def value(self) -> Any:
        """Return the cost of the window's rows alone."""
        return self.function(*self.take())


@dataclass(frozen=True)
class Closure:
    """A function of no arguments that takes its rows, runs backward on their cost and returns it."""

    function: Callable[[], Any]

    def gradients(self, parameters: list[Tensor], look: Look | None) -> tuple[Any, Gradients]:
        """Return what the closure returns, and the gradients that its backward leaves in ``.grad``.

        What ``.grad`` held before takes no part and is put back: zero_grad in the closure is harmless.

        Raises:
            RuntimeError: if the closure returns a cost without running its backward, or a gradient is sparse.
        """
        held = [parameter.grad for parameter in parameters]
        try:
            # Not zeros: in place of None, backward puts its own tensors, without an addition.
            for parameter in parameters:
                parameter.grad = None
            if look:
                with Backward(look):
                    value = self.function()
            else:
                value = self.function()
            gradients = used((parameter, parameter.grad) for parameter in parameters)
            # After create_graph=True they have a graph, which the group's sums would carry on.
            if any(gradient.requires_grad for gradient in gradients.values()):
                gradients = {parameter: gradient.detach() for parameter, gradient in gradients.items()}
        # Also when the closure fails, or the user's gradients would be lost.
        finally:
            for parameter, gradient in zip(parameters, held, strict=True):
                parameter.grad = gradient
        if value is not None and not gradients:
            raise RuntimeError(
                "The closure left no gradient: call cost.backward() in it before it returns the cost."
            )
        # Without its graph, which would stay in memory up to the end of the step.
        return value.detach() if isinstance(value, Tensor) else value, gradients

    @torch.no_grad()
    def value(self) -> Any:
        """Return the cost of the window's rows alone: the closure runs, and its backward does nothing."""
        with Backward(None):
            return self.function()


class Backward(TorchFunctionMode):
    """Has a cost looked at before its ``backward`` runs, or without anyone to look, left without one."""

    def __init__(self, look: Look | None) -> None:
        super().__init__()
        self.look = look

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Stop at ``Tensor.backward`` on its way."""
        if func is Tensor.backward:
            if self.look is None:
                return None
            self.look(args[0])
        return func(*args, **(kwargs or {}))


def check_finite(cost: Any) -> float:
    """Return a cost as a number.

    Raises:
        ValueError: if it is no finite scalar.
    """
    if isinstance(cost, Tensor) and cost.numel() != 1:
        raise ValueError(
            f"The cost has shape {tuple(cost.shape)}: reduce it to a scalar, for example by .mean()."
        )
    number = float(cost)
    if not math.isfinite(number):
        raise ValueError(f"The cost is {number}, which is not finite: look at these rows, or lower lr.")
    return number


def differentiated(value: Tensor, parameters: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a scalar, None for parameters that it does not use.

    As ``torch.autograd.grad`` with ``allow_unused=True``, but for its looks at arguments that are known to be
    right here: they take a tenth of an update by one example.
    """
    if not (parameters and type(value) is Tensor and value.is_floating_point()):
        return torch.autograd.grad(value, parameters, allow_unused=True)
    once = {"allow_unreachable": True, "accumulate_grad": False}
    return _engine_run_backward((value,), (torch.ones_like(value),), False, False, tuple(parameters), **once)


def used(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> Gradients:
    """Return the gradients that there are.

    Raises:
        RuntimeError: if one is sparse.
    """
    gradients = {parameter: gradient for parameter, gradient in pairs if gradient is not None}
    for gradient in gradients.values():
        if gradient.layout is not torch.strided:
            raise RuntimeError(
                "A gradient is sparse, and sums of groups are dense: use Embedding(sparse=False)."
            )
    return gradients
