"""The rule of one step of any cell, and how it is called so that it keeps nothing that torch does not keep.

A cell is a layer walked for one step; its derivation is that in ``direction``. Of a product of x and W, torch
keeps each for the gradient of the other, and a caller may write into what is not kept. The rule reads both
again: what torch does not keep it gets as a copy, or the product in place of both, whichever is smaller.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.linear import linear, not_kept
from torch_backprop.layers.recurrent.direction import Cell, Direction, Weights
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.rule import Rule, autocasts, by_autograd, is_batched, wanted, widen


def cell_rule(cell: type[Cell]) -> Any:
    """The rule of one step of such a cell, of rows ``(B, *)``; returns the next states."""

    class CellRule(Rule):
        """Saves x, the states and the weights; without gates h', and what the gradients multiply.

        Where the pre-activations a of x are given, x and its weights are not; the same of b and h, but for
        h itself, which a GRU reads. If both are, b is what a cannot have in it: of an LSTM nothing.
        """

        @staticmethod
        def forward(
            x: Tensor | None,
            h: Tensor,
            c: Tensor | None,
            ih: Tensor | None,
            hh: Tensor | None,
            bias_ih: Tensor | None,
            bias_hh: Tensor | None,
            a: Tensor | None,
            b: Tensor | None,
        ) -> Any:
            states = (h,) if c is None else (h, c)
            return _forward(cell, x, states, Weights(ih, hh, bias_ih, bias_hh, None), a, b)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: States) -> None:
            _save(cell, ctx, inputs, output[0])

        @staticmethod
        def backward(ctx: Any, *last: Tensor) -> tuple[Tensor | None, ...]:
            return _pull(cell, ctx, last)

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor | None, *tangents: Any) -> States:
            return _push(cell, ctx, tangent_x, tangents)

    kind: Any = CellRule
    kind.cell = cell
    CellRule.__name__ = CellRule.__qualname__ = f"{cell.__name__}CellRule"
    return CellRule


def one_step(rule: Any, x: Tensor, h: Tensor, c: Tensor | None, weights: tuple[Any, ...]) -> States:
    """The next states of rows ``(B, *)``; the weights are those of x, of h, and their biases."""
    # in this order: Dynamo reads no attributes of a rule
    if not (by_autograd(x, h, c, *weights) and rule.cell.gated and _fits(x, h, c, weights)):
        return rule.call(x, h, c, *weights, None, None)
    ih, hh, bias_ih, bias_hh = weights
    of_x, of_h = not_kept(x, ih, bias_ih), not_kept(h, hh, bias_hh)
    size = len(x) * len(ih)
    if c is not None and of_x + of_h > size:
        # the gates of an LSTM only add the two; gradients come through the sum
        a = linear(x, ih, bias_ih) + linear(h, hh, bias_hh)
        return rule.call(None, h.detach(), c, None, None, None, None, a, None)
    a = b = None
    if c is None:
        with_a, with_b = _least(size, of_x, of_h - (0 if wanted(hh) else h.numel()))
        a = linear(x, ih, bias_ih) if with_a else None
        b = linear(h, hh, bias_hh) if with_b else None
    if a is not None and b is not None:
        # of a GRU only the candidate tells b from a
        added, b = b.split((2 * hh.shape[1], hh.shape[1]), 1)
        a, b = a + torch.cat((added, torch.zeros_like(b)), 1), b.clone()
    # all but what is kept instead
    own_x = (own(x, ih), own(ih, x), own(bias_ih)) if a is None else (None, None, None)
    own_hh, own_bias = (own(hh, h), own(bias_hh)) if b is None else (None, None)
    return rule.call(own_x[0], own(h, hh), c, own_x[1], own_hh, own_x[2], own_bias, a, b)


def _least(size: int, of_x: int, of_h: int) -> tuple[bool, bool]:
    """Whether to keep a and whether to keep b of a GRU, so that with the copies it is least."""
    kept = {
        (False, False): of_x + of_h,
        (True, False): size + of_h,
        (False, True): of_x + size,
        (True, True): size + size // 3,
    }
    return min(kept, key=kept.__getitem__)


def own(x: Tensor | None, other: Tensor | None = None) -> Tensor | None:
    """x where torch keeps it for the gradient of ``other``, else a copy."""
    return x if x is None or wanted(other) else x.clone()


def _fits(x: Tensor, h: Tensor, c: Tensor | None, weights: tuple[Any, ...]) -> bool:
    """Whether torch takes these; what it refuses, it refuses itself, in its own words."""
    ih, hh = weights[:2]
    return (
        not autocasts(x.device.type)
        and x.shape[1] == ih.shape[1]
        and h.shape == (len(x), hh.shape[1])
        and (c is None or len(c) == len(x))
        and all(y is None or y.dtype == x.dtype for y in (h, c, *weights))
    )


def _forward(cell: type[Cell], x: Tensor | None, states: States, w: Weights, a: Any, b: Any) -> Any:
    whole = x is not None and w.hh is not None and len({state.shape for state in states}) == 1
    if whole and not any(map(is_batched, (x, *states, *w))):
        out = cell.single(x, states if len(states) == 2 else states[0], *w[:4])
        return (out,) if isinstance(out, Tensor) else out
    return cell.step(_affine(x, w.ih, w.bias_ih, a), _affine(states[0], w.hh, w.bias_hh, b), states, w)


def _affine(rows: Any, w: Tensor | None, bias: Tensor | None, given: Any) -> Any:
    return F.linear(rows, w, bias) if w is not None else 0 if given is None else given


def _save(cell: type[Cell], ctx: Any, inputs: tuple[Any, ...], y: Tensor) -> None:
    x, h, c, ih, hh, bias_ih, bias_hh, a, b = inputs
    ctx.dtypes = tuple(tensor.dtype if isinstance(tensor, Tensor) else None for tensor in inputs)
    ctx.by_columns = x is not None and is_by_columns(x), is_by_columns(h)
    needs_x, needs_h, _, needs_ih, needs_hh = ctx.needs_input_grad[:5]
    if cell.gated:
        # an LSTM reads h for b alone
        kept_h = h if c is None or hh is not None else None
        ctx.save_for_backward(x, None, kept_h, c, ih, hh, bias_ih, bias_hh, a, b)
    else:
        # the slopes follow from y
        factors = x if needs_ih else None, y, h if needs_hh else None, c
        ctx.save_for_backward(*factors, ih if needs_x else None, hh if needs_h else None, *(None,) * 4)
    ctx.save_for_forward(x, None if cell.gated else y, h, *inputs[2:])


def _pull(cell: type[Cell], ctx: Any, last: States) -> tuple[Tensor | None, ...]:
    saved = [None if tensor is None else widen(tensor).conj() for tensor in ctx.saved_tensors]
    needs_x, *needs_states = ctx.needs_input_grad[:3]
    *needs_w, needs_a, needs_b = ctx.needs_input_grad[3:]
    # False stands for the projection, which no cell has
    needs = (needs_x, *needs_states[: len(last)], *needs_w, False, needs_a, needs_b)
    grads_last = tuple(map(widen, last))
    # a cell is a walk of one step, whose output is its last state: it is given there
    *grads, _, grad_a, grad_b = _direction(cell, saved, len(last[0])).pull(
        torch.zeros_like(grads_last[0]), grads_last, needs
    )
    grads += [grad_a, grad_b]
    grads[2:2] = [None for _ in range(2 - len(last))]
    for i, by_columns in enumerate(ctx.by_columns):
        grads[i] = in_layout(grads[i], by_columns)
    return tuple(grad if grad is None else grad.to(to) for grad, to in zip(grads, ctx.dtypes, strict=True))


def _push(cell: type[Cell], ctx: Any, tangent_x: Tensor | None, tangents: tuple[Any, ...]) -> States:
    saved = [None if tensor is None else widen(tensor) for tensor in ctx.saved_tensors]
    starts = [
        torch.zeros_like(state) if tangent is None else widen(tangent)
        for tangent, state in zip(tangents[:2], saved[2:4], strict=True)
        if state is not None
    ]
    moved = None if tangent_x is None else widen(tangent_x)
    weights = (None if tangent is None else widen(tangent) for tangent in tangents[2:-2])
    direction = _direction(cell, saved, len(starts[0]))
    _, last = direction.push(moved, tuple(starts), Weights._make((*weights, None)))
    return tuple(tangent.to(ctx.dtypes[1]) for tangent in last)


def _direction(cell: type[Cell], saved: list[Any], batch: int) -> Direction:
    x, y, h, c, *weights, a, b = saved
    return Direction(cell, Walk((batch,), False), x, y, (h, c), Weights._make((*weights, None)), a, b)


def is_by_columns(rows: Tensor) -> bool:
    """Whether the columns of ``(N, I)`` lie one after the other."""
    return rows.dim() == 2 and rows.stride() == (1, rows.shape[0])


def in_layout(grad: Any, by_columns: bool) -> Any:
    """A gradient in the layout of its rows, as torch returns it."""
    return grad.mT.contiguous().mT if by_columns and grad is not None else grad
