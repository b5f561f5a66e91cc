"""What a recurrent layer keeps for its backward pass, decided before its rule is called.

torch keeps the gates. The rule recomputes them from x and y, which is less unless x is wide; and where torch
keeps none, because a projection alone learns, there is nothing to recompute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.linear import linear
from torch_backprop.layers.recurrent.direction import Cell, Weights
from torch_backprop.layers.recurrent.layer import PARTS, is_joined, part, stepped, steps_of
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.rule import autocasts, by_autograd, private, wanted


def applied(
    rule: Any, x: Tensor, sizes: Tensor | None, h0: Tensor, c0: Tensor | None, weights: list[Tensor | None]
) -> Any:
    """Calls the rule, so that it keeps no input which the built-in does not keep."""
    only = one_way(x, (h0, c0), weights)
    given: list[Tensor | None] = [None, None]
    # in this order: Dynamo reads no attributes of a rule
    if by_autograd(x, h0, c0, *weights) and rule.cell.gated:
        if c0 is not None and _projects(x, sizes, (h0, c0), weights):
            return _projected(rule.cell, x, sizes, [h0, c0], weights)
        frozen, joined = not any(map(wanted, weights[::PARTS])), is_joined(c0, weights)
        gates = x.shape[:-1].numel() * len(Weights(*part(weights, 0)).ih)
        wide = x.numel() + (h0.numel() if joined else 0) > gates
        if frozen and wide:
            start = h0 if joined else None
            given = [_given(x, sizes, start, weights, i) if only in (None, i) else None for i in range(2)]
            # their gradients come through that part
            x, detached = x.detach(), {2, PARTS + 2}
            weights = [w.detach() if w is not None and k in detached else w for k, w in enumerate(weights)]
        elif frozen:
            x = private(x, h0, c0, *weights)
        if joined and wide:
            h0 = h0.detach()
        elif not any(map(wanted, weights[1::PARTS])):
            h0 = private(h0, x, c0, *weights)
    return rule.call(x, sizes, h0, c0, *weights, *given, only)


def _given(
    x: Tensor, sizes: Tensor | None, h0: Tensor | None, weights: Sequence[Tensor | None], i: int
) -> Tensor | None:
    """The pre-activations of x in a direction, with the part of h0 if that is given."""
    w = Weights(*part(weights, i))
    if w.ih is None:
        return None
    a = linear(x, w.ih, w.bias_ih)
    if h0 is None:
        return a
    walk = Walk(steps_of(x, sizes), i == 1)
    first = walk.before(h0[i], x.new_zeros(x.shape[:-1].numel(), h0.shape[-1]))
    return a + linear(first, w.hh).reshape(a.shape)


def _projects(x: Tensor, sizes: Tensor | None, states: States, weights: Sequence[Tensor | None]) -> bool:
    """Whether there is but one step, and of all only projections learn."""
    others = [w for i, w in enumerate(weights) if i % PARTS != PARTS - 1]
    return (
        len(steps_of(x, sizes)) == 1
        and not any(map(wanted, (x, *states, *others)))
        and not autocasts(x.device.type)
    )


def _projected(
    cell: type[Cell], x: Tensor, sizes: Tensor | None, initial: list[Tensor], weights: list[Tensor | None]
) -> States:
    """The step without its projections, and these by a rule of their own, which keeps what they multiply."""
    projections = [w for w in weights[PARTS - 1 :: PARTS] if w is not None]
    others = tuple(None if i % PARTS == PARTS - 1 else w for i, w in enumerate(weights))
    _, m, c = stepped(cell, x, sizes, initial, others)
    # a copy each, for one may be held without the other
    h = [linear(state.clone(), hr) for state, hr in zip(m, projections, strict=True)]
    y = torch.cat(h, -1)
    return y.reshape(*x.shape[:-1], y.shape[-1]), torch.stack(h), c


def one_way(x: Tensor, initial: Sequence[Tensor | None], weights: Sequence[Tensor | None]) -> int | None:
    """Which of two directions alone is differentiated, or None where both are, or there is but one."""
    # x and the states belong to both; a transform does not say what it differentiates
    if weights[PARTS] is None or not by_autograd(x, *initial, *weights) or any(map(wanted, (x, *initial))):
        return None
    learning = [i for i in range(2) if any(map(wanted, part(weights, i)))]
    return learning[0] if len(learning) == 1 else None
