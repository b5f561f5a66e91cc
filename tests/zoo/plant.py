"""What a plant is, and the two correct Functions from which most plants grow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from tests.samples import sample


class HandWritten(Function):
    """A Function whose methods name their arguments, as torch's types do not foresee."""

    if TYPE_CHECKING:
        forward: Any
        setup_context: Any
        backward: Any
        jvp: Any
        vmap: Any


@dataclass(frozen=True)
class Plant:
    """One fault: its class, a Function that has it, the correct twin, and the sample a user would write.

    ``inputs`` are as in :func:`tests.samples.sample`. ``isolate``: the fault may spend, hang or end its
    process, and needs one of its own; ``limit``: the seconds after which it hangs.
    """

    name: str
    fault: str
    faulty: Callable[..., Any]
    correct: Callable[..., Any]
    inputs: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    dtype: torch.dtype = torch.float64
    isolate: bool = False
    limit: float = 60.0

    def sample(self) -> tuple[Any, ...]:
        return sample(self.inputs, self.dtype)


def rule(forward: Callable[..., Any], *pullbacks: Callable[..., Tensor | None]) -> type[Function]:
    """A Function that saves its inputs. Pullback k maps ``(g, *inputs)`` to the gradient of input k.

    The inputs that it gets are conjugated, so that the derivative of a holomorphic function is right over the
    complex numbers too.
    """
    f = forward

    class Planted(HandWritten):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Any:
            return f(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            saved = [tensor.conj() for tensor in ctx.saved_tensors]
            pairs = zip(pullbacks, ctx.needs_input_grad, strict=True)
            return tuple(pullback(*grads, *saved) if needed else None for pullback, needed in pairs)

    return Planted


class Square(HandWritten):
    """y = x^2, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x.conj() * g
