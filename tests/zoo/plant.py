"""What a plant is, and the two correct Functions from which most plants grow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torch_backprop.spec import Draw


@dataclass(frozen=True)
class Plant:
    """One fault: its class, a Function that has it, the correct twin, and the sample a user would write.

    ``inputs`` are shapes, to be drawn normal, or draws of another kind, or arguments taken as they are.
    """

    name: str
    fault: str
    faulty: Callable[..., Any]
    correct: Callable[..., Any]
    inputs: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    dtype: torch.dtype = torch.float64

    def sample(self) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(0)
        return tuple(_drawn(item, generator, self.dtype) for item in self.inputs)


def _drawn(item: Any, generator: torch.Generator, dtype: torch.dtype) -> Any:
    if not isinstance(item, (tuple, Draw)):
        return item
    draw = item if isinstance(item, Draw) else Draw(item)
    tensor = draw.tensor(generator, dtype)
    return tensor if draw.kind == "classes" else tensor.requires_grad_()


def rule(forward: Callable[..., Any], *pullbacks: Callable[..., Tensor | None]) -> type[Function]:
    """A Function that saves its inputs. Pullback k maps ``(g, *inputs)`` to the gradient of input k.

    The inputs that it gets are conjugated: a derivative over the reals is then one over the complex numbers.
    """
    f = forward

    class Planted(Function):
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


class Square(Function):
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
