"""Losses of one element at a time: l = f(x, t, ...), reduced, as rows of a table of slopes.

With u what reaches each element's loss, and the arguments broadcast together:

    backward  dL/dx = sum u df/dx     dL/dt = sum u df/dt     ...     over what x, t, ... were broadcast along

The names of a slope's parameters say what it is computed from, and so what is saved.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import TILE, tiles
from torch_backprop.layers.loss.reduction import reduced, spread, sum_to
from torch_backprop.rule import FLOAT32, Rule, first_order, owned, widen

CAST = {"cpu": FLOAT32, "cuda": FLOAT32}
"""The autocast policy of torch's own loss operators."""

Slope = Callable[..., Any]


def pointwise(f: Callable[..., Tensor], autocast: dict[str, str], **slopes: Slope) -> Any:
    """The rule of the loss ``f(*tensors, *options, reduction)``.

    Args:
        f: the forward operator; its parameters are named as those of the slopes.
        autocast: the operator's autocast policy by device type.
        **slopes: by the name of a tensor, the derivative of an element's loss by it, in differentiable
            operators; a function of those tensors and options that it is computed from, by their names.
    """
    policy = autocast
    tensors = tuple(slopes)
    names = tuple(inspect.signature(f).parameters)[:-1]
    rows = tuple((slope, tuple(inspect.signature(slope).parameters)) for slope in slopes.values())

    class PointwiseLossRule(Rule):
        """Saves the tensors that the slopes of the needed gradients are computed from."""

        autocast = policy

        @staticmethod
        def forward(*args: Any) -> Tensor:
            return owned(f(*args))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            given, ctx.options, ctx.reduction = inputs[: len(tensors)], inputs[len(tensors) : -1], inputs[-1]
            needed = [read for (_, read), needs in zip(rows, ctx.needs_input_grad, strict=False) if needs]
            keeps = [any(name in read for read in needed) for name in tensors]
            ctx.save_for_backward(*(x if keep else None for x, keep in zip(given, keeps, strict=True)))
            ctx.save_for_forward(*given)
            ctx.kinds = [(x.shape, x.dtype) for x in given]
            ctx.shape = torch.broadcast_shapes(*(x.shape for x in given))

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
            values = dict(zip(names, (*ctx.saved_tensors, *ctx.options), strict=True))
            u = spread(widen(grad_y), ctx.reduction, ctx.shape.numel())
            grads: list[Tensor | None] = [None for _ in ctx.needs_input_grad]
            for i, (slope, read) in enumerate(rows):
                if ctx.needs_input_grad[i]:
                    grads[i] = _pull(slope, [values[name] for name in read], u, ctx.shape, *ctx.kinds[i])
            return tuple(grads)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            values = dict(zip(names, (*ctx.saved_tensors, *ctx.options), strict=True))
            terms = [
                slope(*(_wide(values[name]) for name in read)) * tangent
                for (slope, read), tangent in zip(rows, tangents, strict=False)
                if tangent is not None
            ]
            tangent = sum(terms[1:], terms[0]).expand(ctx.shape)
            return reduced(tangent, ctx.reduction, ctx.shape.numel())

    # Dynamo tells by the number of parameters whether forward takes a context
    vars(PointwiseLossRule)["forward"].__func__.__signature__ = inspect.signature(f)
    return PointwiseLossRule


def _pull(
    slope: Slope, values: list[Any], u: Tensor, whole: torch.Size, shape: torch.Size, dtype: torch.dtype
) -> Tensor:
    """u times the slope, for an argument of ``shape`` and ``dtype``; tile by tile where that is allowed."""
    saved = [value for value in values if isinstance(value, Tensor)]
    alike = all(tensor.shape == whole for tensor in saved) and shape == whole
    if whole.numel() <= 2 * TILE or not alike or not whole or not saved or not first_order(u, *saved):
        slopes = slope(*map(_wide, values))
        return sum_to((u * slopes.conj()).expand(whole), shape).to(dtype)
    grad = torch.empty_like(saved[0], dtype=dtype)
    for grad_tile, u_tile, *parts in tiles(grad, u.expand(whole), *saved):
        rest = iter(parts)
        tile_values = [next(rest) if isinstance(value, Tensor) else value for value in values]
        slopes = slope(*map(_wide, tile_values)).conj()
        if slopes.dtype == u_tile.dtype == dtype:
            torch.mul(u_tile, slopes, out=grad_tile)
        else:
            grad_tile.copy_(u_tile * slopes)
    return grad


def _wide(value: Any) -> Any:
    return widen(value) if isinstance(value, Tensor) else value
