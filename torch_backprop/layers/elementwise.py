"""Elementwise rules: y = f(x), so that dL/dx = f'(x) dL/dy, from whichever of x and y is kept.

A row of a table is a call of :func:`elementwise`: the function, what it keeps, and its pullback. The Jacobian
is diagonal, so the pullback is the forward-mode rule too; over the complex numbers the two differ by a
conjugate.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from torch_backprop.rule import Rule, first_order, is_plain, save, tracked, widen

TILE = 1 << 17
"""Elements of a tile: its temporaries stay in the cache and their pages are used again."""

_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}

Keep = Callable[..., bool]
Pullback = Callable[..., Tensor]


def always(x: Tensor, *options: Any) -> bool:
    """Keep the output whatever the options."""
    return True


def never(x: Tensor, *options: Any) -> bool:
    """Keep the input whatever the options."""
    return False


class ElementwiseRule(Rule):
    """Saves x or y, whichever ``keeps_output`` says for these options."""

    keeps_output: Keep
    overwrite: type[ElementwiseRule]


def elementwise(
    f: Callable[..., Tensor], keeps_output: Keep, pullback: Pullback, autocast: dict[str, str] | None = None
) -> Any:
    """The rule of the elementwise function ``f(x, *options)``.

    Args:
        f: the forward operator; with ``inplace=True`` too where the layer has that option.
        keeps_output: called with ``(x, *options)``: whether y is kept instead of x.
        pullback: maps ``(g, kept, *options)`` to f'(x) g, in differentiable operators.
        autocast: the operator's autocast policy by device type.
    """
    policy = autocast or {}

    class Elementwise(ElementwiseRule):
        autocast = policy

        @staticmethod
        def forward(x: Tensor, *options: Any) -> Tensor:
            return f(x, *options)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            x, ctx.options = inputs[0], inputs[1:]
            save(ctx, output if keeps_output(x, *ctx.options) else x)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
            (kept,) = ctx.saved_tensors
            # f is holomorphic wherever torch lets it be complex, and f'(conj x) = conj f'(x)
            return pull(pullback, grad_y, kept.conj(), *ctx.options), *(None for _ in ctx.options)

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> Tensor:
            (kept,) = ctx.saved_tensors
            return pull(pullback, tangent_x, kept, *ctx.options)

    # Dynamo tells by the number of parameters whether forward takes a context
    _, kept, *options = inspect.signature(pullback).parameters.values()
    vars(Elementwise)["forward"].__func__.__signature__ = inspect.Signature([kept, *options])
    _name(Elementwise, f"{f.__name__.strip('_')}_rule")
    Elementwise.keeps_output = staticmethod(keeps_output)
    Elementwise.overwrite = _overwriting(Elementwise, f)
    return Elementwise


def _overwriting(rule: Any, f: Callable[..., Tensor]) -> Any:
    """The same rule in place: y takes the memory of x, so that only y can be kept."""

    class Overwriting(rule):
        @staticmethod
        def forward(x: Tensor, *options: Any) -> Tensor:
            return f(x, *options, inplace=True)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.mark_dirty(inputs[0])
            rule.setup_context(ctx, inputs, output)

    _name(Overwriting, rule.__name__)
    return Overwriting


def _name(rule: Any, name: str) -> None:
    """Names the rule, and its node in the graph."""
    rule.__name__ = rule.__qualname__ = name
    rule._backward_cls.__name__ = f"{name}Backward"


def pull(pullback: Pullback, g: Tensor, kept: Tensor, *options: Any) -> Tensor:
    """``pullback(g, kept, *options)`` in the dtype of ``kept``; tile by tile where that is allowed.

    Most of the time of a long chain of elementwise operators goes into the page faults of its temporaries;
    over tiles they cost nothing, and memory peaks at the result.
    """
    if kept.numel() <= 2 * TILE or not kept.dim() or not first_order(g, kept):
        return pullback(widen(g), widen(kept), *options).to(kept.dtype)
    grad_x = torch.empty_like(kept)
    for grad_tile, g_tile, kept_tile in tiles(grad_x, g, kept):
        grad_tile.copy_(pullback(widen(g_tile), widen(kept_tile), *options))
    return grad_x


def tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of the same first dimension into views, so that the largest has about TILE elements."""
    largest = max(tensor.numel() for tensor in tensors)
    rows = max(1, tensors[0].shape[0] * TILE // max(largest, 1))
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def select(a: Any, b: Any, compare: Callable[..., Tensor], x: Tensor, bound: float) -> Tensor:
    """``a`` where ``compare(x, bound)`` holds, else ``b``, exact to the bit; one of the tensors may be 0.

    ``torch.where`` takes one element at a time on a CPU. The same choice in integer arithmetic on the bits
    is vectorized, and an infinite or undefined element that is not chosen does no harm.
    """
    bits = _BITS.get(x.dtype)
    choices = [choice for choice in (a, b) if isinstance(choice, Tensor)]
    if bits is None or x.device.type != "cpu" or not first_order(x, *choices):
        chosen = torch.where(compare(x, bound), a, b)
        # the second derivative by x is zero, not missing, as it is in torch
        return chosen + 0 * torch.sign(x) if torch.is_grad_enabled() and x.requires_grad else chosen
    # 0 or 1; the products and differences below wrap around, and are exact all the same
    chosen = compare(x, bound, out=torch.empty_like(x, dtype=bits))
    if not isinstance(a, Tensor):
        return chosen.sub_(1).bitwise_and_(b.view(bits)).view(x.dtype)
    if not isinstance(b, Tensor):
        return chosen.mul_(a.view(bits)).view(x.dtype)
    other = b.view(bits)
    return chosen.mul_(a.view(bits) - other).add_(other).view(x.dtype)


def activate(rule: type[ElementwiseRule], input: Tensor, inplace: bool, *options: Any) -> Tensor:
    """Calls the rule of an activation, in place if asked for."""
    if not inplace:
        return rule.call(input, *options)
    if not tracked(input):
        return rule.overwrite.forward(input, *options)
    keeps_output = rule.keeps_output(input, *options)
    # where x is kept, overwriting it saves nothing: torch keeps a clone as well
    if keeps_output and _overwritable(input):
        return rule.overwrite.call(input, *options)
    return input.copy_(rule.call(input if keeps_output else input.clone(), *options))


def _overwritable(x: Tensor) -> bool:
    """Whether a Function may write into x; if not, ``copy_`` does it, or raises in torch's words."""
    if not is_plain(x) or forward_ad._current_level >= 0:
        return False
    return not (x._is_view() or (x.is_leaf and x.requires_grad))
