"""Elementwise rules. Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.44 (the chain rule).

    forward   y = f(x)
    backward  dL/dx = f'(x) g     f' from whichever of x and y is kept

A row of a table is a call of :func:`elementwise`: the function, what it keeps, and its pullback. The one
non-obvious step: the pullback is the forward-mode rule too, since the Jacobian is diagonal; over the complex
numbers the two differ by a conjugate. Where a chain of operators is slow, the row has a second form of the
pullback that works in place.
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

INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
"""The integers of the same size."""

_SHIFT = {torch.float32: 29, torch.float64: 61}
"""By how much to shift the bits of 1.0, which begin with 001, to get 1."""

Keep = Callable[..., bool]
Pullback = Callable[..., Tensor]
Into = Callable[..., Any]


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
    f: Callable[..., Tensor],
    keeps_output: Keep,
    pullback: Pullback,
    into: Into | None = None,
    autocast: dict[str, str] | None = None,
) -> Any:
    """The rule of the elementwise function ``f(x, *options)``.

    Args:
        f: the forward operator; with ``inplace=True`` too where the layer has that option.
        keeps_output: called with ``(x, *options)``: whether y is kept instead of x.
        pullback: maps ``(g, kept, *options)`` to f'(x) g, in differentiable operators.
        into: the same in place, see :func:`pull`; where it is left out, the pullback does.
        autocast: the operator's autocast policy by device type.
    """
    policy = autocast or {}

    class Elementwise(ElementwiseRule):
        autocast = policy

        @staticmethod
        @taking(pullback, but=1)
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
            return pull(pullback, grad_y, kept.conj(), *ctx.options, into=into), *(None for _ in ctx.options)

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> Tensor:
            (kept,) = ctx.saved_tensors
            return pull(pullback, tangent_x, kept, *ctx.options, into=into)

    named(Elementwise, f"{f.__name__.strip('_')}_rule")
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

    named(Overwriting, rule.__name__)
    return Overwriting


def taking(other: Callable[..., Any], but: int = 0) -> Callable[..., Any]:
    """Gives ``forward(x, *options)`` the parameters of ``other`` but the first few.

    Dynamo tells by their number whether ``forward`` takes a context.
    """

    def declared(forward: Any) -> Any:
        forward.__signature__ = inspect.Signature(list(inspect.signature(other).parameters.values())[but:])
        return forward

    return declared


def named(rule: Any, name: str) -> None:
    """Names the rule, and its node in the graph."""
    rule.__name__ = rule.__qualname__ = name
    rule._backward_cls.__name__ = f"{name}Backward"


def pull(pullback: Pullback, g: Tensor, kept: Tensor, *options: Any, into: Into | None = None) -> Tensor:
    """``pullback(g, kept, *options)`` in the dtype of ``kept``; tile by tile and in place where allowed.

    Most of the time of a long chain of elementwise operators goes into the page faults of its temporaries;
    over tiles they cost nothing, and memory peaks at the result. ``into(out, g, kept, *options)``, if given,
    writes what ``pullback`` returns into ``out``, in as few passes as can be.
    """
    large = kept.numel() > 2 * TILE and kept.dim() > 0
    if kept.device.type != "cpu" or not (into or large) or not first_order(g, kept):
        return pullback(widen(g), widen(kept), *options).to(kept.dtype)
    # laid out as what was kept, which is how torch lays it out
    grad_x = torch.empty_like(kept)
    whole = grad_x, g, kept
    for grad_tile, g_tile, kept_tile in tiles(*whole) if large else (whole,):
        wide = widen(kept_tile)
        if into is None:
            grad_tile.copy_(pullback(widen(g_tile), wide, *options))
        elif wide is kept_tile:
            into(grad_tile, g_tile, wide, *options)
        else:
            out = torch.empty_like(wide)
            into(out, widen(g_tile), wide, *options)
            grad_tile.copy_(out)
    return grad_x


def tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of the same first dimension into views, so that the largest has about TILE elements."""
    largest = max(tensor.numel() for tensor in tensors)
    # whole rows, so that a tile of any of them is a view
    rows = max(1, tensors[0].shape[0] * TILE // max(largest, 1))
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def select(a: Any, b: Any, compare: Callable[..., Tensor], x: Tensor, bound: float) -> Tensor:
    """``a`` where ``compare(x, bound)`` holds, else ``b``; one of the tensors may be 0."""
    chosen = torch.where(compare(x, bound), a, b)
    # the second derivative by x is zero, not missing, as it is in torch
    return chosen + 0 * torch.sign(x) if torch.is_grad_enabled() and x.requires_grad else chosen


def keep(out: Tensor, g: Tensor, compare: Callable[..., Tensor], x: Tensor, bound: float) -> Tensor:
    """Writes ``g`` where ``compare(x, bound)`` holds, else 0, into ``out``, exact to the bit.

    ``torch.where`` takes one element at a time on a CPU. The same choice in integer arithmetic on the bits
    is vectorized, and an infinite or undefined element that is not chosen does no harm.
    """
    integers = INTEGERS[out.dtype]
    compare(x, bound, out=out)
    out.view(integers).bitwise_right_shift_(_SHIFT[out.dtype]).mul_(g.view(integers))
    return out


def steps(out: Tensor, x: Tensor, a: float) -> Tensor:
    """Writes 1 where x > 0, else ``a``, into ``out``."""
    return torch.threshold_(torch.gt(x, 0, out=out), 0, a)


def exp_(x: Tensor) -> Tensor:
    """exp(x) = s(x) / s(-x) in place, for x <= 0: sigmoid is vectorized, and exp is not."""
    return x.sigmoid_().div_(1 - x)


def activate(rule: type[ElementwiseRule], input: Tensor, inplace: bool, *options: Any) -> Tensor:
    """Calls the rule of an activation, in place if asked for."""
    if not inplace:
        return rule.call(input, *options)
    if not tracked(input):
        return rule.overwrite.forward(input, *options)
    keeps_output = rule.keeps_output(input, *options)
    # where x is kept, overwriting it saves nothing: torch keeps a clone as well
    if keeps_output and overwritable(input):
        return rule.overwrite.call(input, *options)
    return input.copy_(rule.call(input if keeps_output else input.clone(), *options))


def overwritable(x: Tensor) -> bool:
    """Whether a Function may write into x; if not, ``copy_`` does it, or raises in torch's words."""
    if not is_plain(x) or forward_ad._current_level >= 0:
        return False
    return not (x._is_view() or (x.is_leaf and x.requires_grad))
