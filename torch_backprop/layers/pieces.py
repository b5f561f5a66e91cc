"""Elementwise rules with two slopes. Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.44.

    forward   y = f(x), of slope b where x is on its upper side, else a
    backward  dL/dx = b g or a g

The one non-obvious step: which side it was is one bit for an element, where torch keeps x, and no later write
into x or into y changes it. Over tiles the bits cost little: eight rows of the numbers 1 and 0, times (1, 2,
4, ..., 128), are a row of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import INTEGERS, named, overwritable, taking
from torch_backprop.rule import Rule, first_order, is_for_others, is_plain, save, tracked, widen

Mark = Callable[..., Any]

TILE = 1 << 17
"""Elements of a tile: large enough that what a call of an operator costs is little beside its work."""


class PieceRule(Rule):
    """Saves the sides, as bits where they can be made, else as numbers. Returns ``(y, sides, link)``.

    The empty link ties the gradient to x: its second derivative is zero, as in torch, and not missing.
    """

    f: Callable[..., Tensor]
    overwrite: type[PieceRule]


def pieces(
    f: Callable[..., Tensor],
    upper: Callable[..., Tensor],
    mark: Mark,
    slopes: Callable[..., tuple[float, float]],
) -> Any:
    """The rule of the function ``f(x, *options)`` of two slopes.

    Args:
        f: the forward operator; with ``inplace=True`` too where the layer has that option.
        upper: called with ``(x, *options)``: where the slope is b.
        mark: the same as 1 and 0, written into ``out``: called with ``(out, x, *options)``.
        slopes: called with the options: a and b.
    """

    class Pieces(PieceRule):
        @staticmethod
        @taking(upper)
        def forward(x: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
            y = f(x, *options)
            sides = _packed(mark, x, options) if is_plain(x) else upper(x, *options).to(x.dtype)
            return y, sides, x.new_zeros(0)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            x, *options = inputs
            ctx.slopes, ctx.shape, ctx.strides = slopes(*options), x.shape, torch.empty_like(x).stride()
            ctx.mark_non_differentiable(output[1])
            save(ctx, *output[1:])

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
            return _times_slopes(ctx, grad_y), *(None for _ in ctx.needs_input_grad[1:])

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None, Tensor]:
            return _times_slopes(ctx, tangent_x), None, torch.zeros_like(ctx.saved_tensors[1])

    named(Pieces, f"{f.__name__.strip('_')}_rule")
    Pieces.f = staticmethod(f)
    Pieces.overwrite = _overwriting(Pieces, f, mark)
    return Pieces


def _overwriting(rule: Any, f: Callable[..., Tensor], mark: Mark) -> Any:
    """The same rule in place: y takes the memory of x."""

    class Overwriting(rule):
        @staticmethod
        def forward(x: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
            sides = _packed(mark, x, options)
            return f(x, *options, inplace=True), sides, x.new_zeros(0)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            ctx.mark_dirty(inputs[0])
            rule.setup_context(ctx, inputs, output)

    named(Overwriting, rule.__name__)
    return Overwriting


def bend(rule: type[PieceRule], input: Tensor, inplace: bool, *options: Any) -> Tensor:
    """Calls the rule, in place if asked for."""
    # torch knows neither side of a complex number; a nested tensor has no strides
    sideless = input.is_complex() or input.is_nested
    if sideless or not tracked(input) or (inplace and is_for_others()):
        return rule.f(input, *options, inplace=True) if inplace else rule.f(input, *options)
    if inplace and overwritable(input):
        return rule.overwrite.call(input, *options)[0]
    y = rule.call(input, *options)[0]
    return input.copy_(y) if inplace else y


def _packed(mark: Mark, x: Tensor, options: tuple[Any, ...]) -> Tensor:
    """The sides of x as bits, in the order of a dense tensor like x."""
    flat = widen(_flat(x, torch.empty_like(x).stride()))
    bits = torch.empty(-(-flat.numel() // 8), dtype=torch.uint8, device=x.device)
    sides = flat.new_zeros(8 * min(bits.numel(), TILE // 8))
    # in floating point: products of integer matrices are slow, and a sum below 256 is exact
    weights = 2 ** torch.arange(8, dtype=flat.dtype, device=x.device)
    sums = flat.new_empty(sides.numel() // 8)
    for byte, tile in zip(bits.split(TILE // 8), flat.split(TILE), strict=True):
        mark(sides[: tile.numel()], tile, *options)
        rows = sides[: 8 * byte.numel()].view(8, byte.numel())
        byte.copy_(torch.mv(rows.t(), weights, out=sums[: byte.numel()]))
    return bits


def _times_slopes(ctx: Any, g: Tensor) -> Tensor:
    """g times the slopes; what is infinite or undefined leaves no trace where the slope is zero."""
    sides, link = ctx.saved_tensors
    if sides.dtype == torch.uint8:
        if first_order(g, sides):
            return _times_bits(ctx, g, sides)
        places = _places(torch.int32, sides.device)
        tiles = [_signs(byte.int(), places).view(-1) for byte in sides.split(TILE // 8)]
        sides = torch.cat(tiles)[: ctx.shape.numel()].as_strided(ctx.shape, ctx.strides)
    below, above = (g * slope if slope else torch.zeros_like(g) for slope in ctx.slopes)
    pulled = torch.where(sides != 0, above, below)
    return pulled + link.sum() if torch.is_grad_enabled() else pulled


def _times_bits(ctx: Any, g: Tensor, bits: Tensor) -> Tensor:
    grad_x = torch.empty_strided(ctx.shape, ctx.strides, dtype=g.dtype, device=g.device)
    wide = widen(_flat(g, ctx.strides))
    integers = INTEGERS[wide.dtype]
    # a choice in integer arithmetic: zero times an infinite gradient would be undefined
    a, b = (int(wide.new_tensor(slope).view(integers)) for slope in ctx.slopes)
    places = _places(integers, g.device)
    room = torch.empty(8, min(bits.numel(), TILE // 8), dtype=integers, device=g.device)
    parts = wide.split(TILE), bits.split(TILE // 8), _flat(grad_x, ctx.strides).split(TILE)
    for part, byte, out in zip(*parts, strict=True):
        signs = _signs((byte if b else ~byte).to(integers), places, out=room).view(-1)[: part.numel()]
        if a and b:
            torch.mul(signs.bitwise_and_(a ^ b).bitwise_xor_(a).view(part.dtype), part, out=out)
        elif sum(ctx.slopes) == 1 and out.dtype == part.dtype:
            torch.bitwise_and(signs, part.view(integers), out=out.view(integers))
        else:
            torch.mul(signs.bitwise_and_(part.view(integers)).view(part.dtype), sum(ctx.slopes), out=out)
    return grad_x


def _places(integers: torch.dtype, device: torch.device) -> Tensor:
    """By how much to shift an integer to bring each of its last eight bits to the place of the sign."""
    top = torch.iinfo(integers).bits - 1
    return torch.arange(top, top - 8, -1, dtype=integers, device=device).unsqueeze(1)


def _signs(byte: Tensor, places: Tensor, out: Tensor | None = None) -> Tensor:
    """-1 for each bit that is set, else 0, ``(8, N)``; written into ``out`` if it has that size."""
    if out is None or out.shape[1] != byte.numel():
        out = byte.new_empty(8, byte.numel())
    # a bit in the place of the sign fills the number when it is shifted back
    top = torch.iinfo(byte.dtype).bits - 1
    return torch.bitwise_left_shift(byte, places, out=out).bitwise_right_shift_(top)


def _flat(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """The elements of x in the order in which a dense tensor of these strides holds them."""
    # a copy only of what has gaps or overlaps
    if x.stride() != strides:
        x = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
    return x.as_strided((x.numel(),), (1,))
