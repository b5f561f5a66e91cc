"""Losses of one element at a time: l = f(x, t, ...), reduced, as rows of a table of pullbacks.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.45. With u what reaches each element's loss, and
the arguments broadcast together:

    forward   l = f(x, t, ...)
    backward  dL/dx = sum u df/dx     dL/dt = sum u df/dt     ...     over what x, t, ... were broadcast along

The names of a pullback's parameters say what it is computed from, and so what is saved. The one non-obvious
step: the Jacobian of an element is a row of numbers, so that a pullback of a tangent is the forward-mode rule
too.
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

Pullback = Callable[..., Any]
Names = tuple[str, ...]
Rows = tuple[tuple[Pullback, Names], ...]
"""The pullback of each tensor, and the names that it reads."""


def pointwise(f: Callable[..., Tensor], autocast: dict[str, str], **pullbacks: Pullback) -> Any:
    """The rule of the loss ``f(*tensors, *options, reduction)``.

    Args:
        f: the forward operator; its parameters are named as those of the pullbacks.
        autocast: the operator's autocast policy by device type.
        **pullbacks: by the name of a tensor, u times the derivative of an element's loss by it, in
            differentiable operators; a function of u, and by their names of the tensors and options that it
            is computed from.
    """
    policy = autocast
    names = tuple(inspect.signature(f).parameters)[:-1]
    rows = tuple((pullback, _read_by(pullback)) for pullback in pullbacks.values())

    class PointwiseLossRule(Rule):
        """Saves the tensors that the pullbacks of the needed gradients are computed from."""

        autocast = policy

        @staticmethod
        def forward(*args: Any) -> Tensor:
            return owned(f(*args))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.dtype = output.dtype
            _save(ctx, inputs, names, rows)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
            return _pull(ctx, grad_y, names, rows)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            return _push(ctx, tangents, names, rows)

    # Dynamo tells by the number of parameters whether forward takes a context
    vars(PointwiseLossRule)["forward"].__func__.__signature__ = inspect.signature(f)
    return PointwiseLossRule


def _save(ctx: Any, inputs: tuple[Any, ...], names: Names, rows: Rows) -> None:
    count = len(rows)
    given, ctx.options, ctx.reduction = inputs[:count], inputs[count:-1], inputs[-1]
    needed = [read for (_, read), needs in zip(rows, ctx.needs_input_grad, strict=False) if needs]
    keeps = [any(name in read for read in needed) for name in names[:count]]
    ctx.save_for_backward(*(x if keep else None for x, keep in zip(given, keeps, strict=True)))
    ctx.save_for_forward(*given)
    ctx.kinds = [(x.shape, x.dtype) for x in given]
    ctx.shape = torch.broadcast_shapes(*(x.shape for x in given))


def _pull(ctx: Any, grad_y: Tensor, names: Names, rows: Rows) -> tuple[Tensor | None, ...]:
    # over the complex numbers f'(conj x) = conj f'(x), as in elementwise rules
    saved = (None if x is None else x.conj() for x in ctx.saved_tensors)
    values = dict(zip(names, (*saved, *ctx.options), strict=True))
    u = spread(widen(grad_y), ctx.reduction, ctx.shape.numel())
    grads: list[Tensor | None] = [None for _ in ctx.needs_input_grad]
    for i, (pullback, read) in enumerate(rows):
        if ctx.needs_input_grad[i]:
            grads[i] = _gradient(pullback, [values[name] for name in read], u, ctx.shape, *ctx.kinds[i])
    return tuple(grads)


def _push(ctx: Any, tangents: tuple[Tensor | None, ...], names: Names, rows: Rows) -> Tensor:
    values = dict(zip(names, (*ctx.saved_tensors, *ctx.options), strict=True))
    terms: list[Tensor] = [
        pullback(tangent, *(_wide(values[name]) for name in read))
        for (pullback, read), tangent in zip(rows, tangents, strict=False)
        if tangent is not None
    ]
    tangent = sum(terms[1:], terms[0]).expand(ctx.shape)
    return reduced(tangent, ctx.reduction, ctx.shape.numel()).to(ctx.dtype)


def _read_by(pullback: Pullback) -> Names:
    _, *read = inspect.signature(pullback).parameters
    return tuple(read)


def _gradient(
    pullback: Pullback, values: list[Any], u: Tensor, whole: torch.Size, shape: torch.Size, dtype: torch.dtype
) -> Tensor:
    """The gradient of an argument of ``shape`` and ``dtype``; tile by tile where that is allowed."""
    saved = [value for value in values if isinstance(value, Tensor)]
    alike = all(tensor.shape == whole for tensor in saved) and shape == whole
    if whole.numel() <= 2 * TILE or not alike or not whole or not saved or not first_order(u, *saved):
        grad = pullback(u, *map(_wide, values))
        # written out, because an expanded gradient is not laid out as torch's
        grad = grad if grad.shape == whole else grad.expand(whole).contiguous()
        return sum_to(grad, shape).to(dtype)
    grad = torch.empty_like(saved[0], dtype=dtype)
    for grad_tile, *parts in tiles(grad, *saved, *([u] if u.dim() else [])):
        rest = iter(parts)
        tile_values = [_wide(next(rest)) if isinstance(value, Tensor) else value for value in values]
        grad_tile.copy_(pullback(next(rest, u), *tile_values))
    return grad


def _wide(value: Any) -> Any:
    return widen(value) if isinstance(value, Tensor) else value


class DifferenceRule(Rule):
    """x - t, in the dtype of the losses made of it. Saves nothing."""

    autocast = CAST

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return x - t

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.kinds = [(x.shape, x.dtype) for x in inputs]
        ctx.shape = output.shape

    @staticmethod
    def backward(ctx: Any, grad_d: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (x_shape, x_dtype), (t_shape, t_dtype) = ctx.kinds
        needs_x, needs_t = ctx.needs_input_grad
        grad_x = sum_to(grad_d, x_shape).to(x_dtype) if needs_x else None
        return grad_x, -sum_to(grad_d, t_shape).to(t_dtype) if needs_t else None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_t: Tensor | None) -> Tensor:
        if tangent_t is None:
            assert tangent_x is not None
            return tangent_x.expand(ctx.shape)
        return (-tangent_t if tangent_x is None else tangent_x - tangent_t).expand(ctx.shape)
