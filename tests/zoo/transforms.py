"""Right for a first gradient in eager mode: second order, forward mode, torch.func, compile."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .plant import HandWritten, Plant, Square


class Detached(Square):
    """The slope leaves the graph, and the second derivative with it."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x.detach().conj() * g


class Normalize(HandWritten):
    """y = x r with r = (sum x^2)^-1/2, computed again in backward, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        r = x.square().sum().rsqrt()
        return x * r, r

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        x = ctx.saved_tensors[0].conj()
        r = x.square().sum().rsqrt()
        return r * g - x * r**3 * (g * x).sum()


class NormalizeSaved(Normalize):
    """Saves r, which the second derivative takes for a constant."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        x, r = (tensor.conj() for tensor in ctx.saved_tensors)
        return r * g - x * r**3 * (g * x).sum()


class Once(Square):
    """Refuses a second derivative, as it may."""

    backward: Any = staticmethod(once_differentiable(Square.backward))


class SquareSlope(Function):
    """The tangent of x^2 along t: a Function too, since torch takes the jvp of a plain jvp to be 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return 2 * x * t

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, t = ctx.saved_tensors
        return 2 * t.conj() * grads[0], 2 * x.conj() * grads[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        x, t = ctx.saved_tensors
        tangent_x, tangent_t = (0 if tangent is None else tangent for tangent in tangents)
        return 2 * t * tangent_x + 2 * x * tangent_t


class ForwardMode(Square):
    """y = x^2 with its forward mode, as it should be written."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, t: Any) -> Any:
        (x,) = ctx.saved_tensors
        return SquareSlope.apply(x, t)


class ForwardModeHalved(ForwardMode):
    """Forgets the 2 in forward mode."""

    @staticmethod
    def jvp(ctx: Any, t: Any) -> Any:
        (x,) = ctx.saved_tensors
        return x * t


class OldStyle(HandWritten):
    """y = x^2 with ctx in forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x.conj() * g


class BatchRuleScales(Square):
    """Its vmap rule multiplies by the size of the batch."""

    generate_vmap_rule = False

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> Any:
        return info.batch_size * BatchRuleScales.apply(x), in_dims[0]


class Compiled(Square):
    """Another factor where the compiler looks."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (1 if torch.compiler.is_compiling() else 2) * x.conj() * g


def first(function: type[Function]) -> Callable[[Tensor], Tensor]:
    """The function's first output alone."""
    return lambda x: function.apply(x)[0]  # pyright: ignore[reportOptionalSubscript]


PLANTS = (
    Plant("statistic saved", "double-backward-wrong", first(NormalizeSaved), first(Normalize), ((4, 3),)),
    Plant("slope detached", "double-backward-wrong", Detached, Square, ((4, 3),)),
    Plant("forward mode of half the slope", "forward-mode-wrong", ForwardModeHalved, ForwardMode, ((4, 3),)),
    Plant("batch rule that scales", "torch-func-wrong", BatchRuleScales, Square, ((4, 3),)),
    Plant("factor lost in compilation", "compiled-wrong", Compiled, Square, ((4, 3),)),
    Plant("ctx in forward", "no-torch-func", OldStyle, Square, ((4, 3),)),
    Plant("no second derivative", "no-double-backward", Once, Square, ((4, 3),)),
    Plant("no forward mode", "no-forward-mode", Square, ForwardMode, ((4, 3),)),
)
