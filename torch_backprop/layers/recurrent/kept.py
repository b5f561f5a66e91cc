"""What a recurrent layer keeps for its backward pass, decided before its rule is called.

It serves the derivation in ``direction``.

torch keeps the gates. The rule recomputes them from x, y and the weights, which is less unless x is wide.
What of these torch does not keep, a caller may write into between the passes: the rule gets a copy of it, or
the pre-activations instead, as ``step`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.linear import elements, linear
from torch_backprop.layers.recurrent.direction import Weights
from torch_backprop.layers.recurrent.layer import PARTS, by_direction, part, steps_of
from torch_backprop.layers.recurrent.step import one_step, own
from torch_backprop.layers.recurrent.walk import Walk
from torch_backprop.rule import autocasts, by_autograd, wanted


def applied(
    rule: Any,
    x: Tensor,
    sizes: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    weights: Sequence[Tensor | None],
) -> Any:
    """Calls the rule, so that it keeps no tensor which the built-in does not keep."""
    only = one_way(x, (h0, c0), weights)
    given: list[Tensor | None] = [None, None]
    # in this order: Dynamo reads no attributes of a rule
    if by_autograd(x, h0, c0, *weights) and rule.cell.gated:
        if len(steps_of(x, sizes)) == 1 and not autocasts(x.device.type):
            return _one_step(rule.step, x, h0, c0, weights)
        ways = [i for i in range(2) if only in (None, i) and weights[i * PARTS] is not None]
        frozen = not any(wanted(weights[i * PARTS + 1]) for i in ways)
        # the gates of an LSTM only add what x, h and the biases make, so that all may be part of a
        more = [weights[i * PARTS + 3] for i in ways] + ([h0] if frozen else []) if c0 is not None else None
        x, weights, given = _kept(x, weights, ways, more)
        if frozen and c0 is not None and any(a is not None for a in given):
            walks = [Walk(steps_of(x, sizes), i == 1) for i in range(2)]
            given = [_joined(a, h0, weights, walk) for a, walk in zip(given, walks, strict=True)]
            h0 = h0.detach()
        elif frozen:
            h0 = h0.clone()
    return rule.call(x, sizes, h0, c0, *weights, *given, only)


def _kept(
    x: Tensor, weights: Sequence[Tensor | None], ways: list[int], more: list[Tensor | None] | None
) -> tuple[Tensor, list[Tensor | None], list[Tensor | None]]:
    """x, the weights and the pre-activations of x in each direction, those that are to be kept.

    ``more`` is what else would be copied, and may be part of a; None if nothing may.
    """
    changed = list(weights)
    given: list[Tensor | None] = [None, None]
    learning = any(wanted(weights[i * PARTS]) for i in ways)
    parts = [Weights(*part(weights, i)) for i in ways]
    copies = 0 if learning else x.numel()
    copies += sum((0 if wanted(x) else w.ih.numel()) + elements(w.bias_ih) for w in parts)
    copies += sum(map(elements, more or ()))
    products = x.shape[:-1].numel() * sum(len(w.ih) for w in parts)
    instead = copies > products and not autocasts(x.device.type)
    for i, w in zip(ways, parts, strict=True):
        ih, bias_ih, bias_hh = own(w.ih, x), own(w.bias_ih), own(w.bias_hh)
        if instead:
            given[i] = a = linear(x, w.ih, w.bias_ih)
            # their gradients come through it
            ih, bias_ih = w.ih.detach(), _detached(w.bias_ih)
            if more is not None and w.bias_hh is not None:
                given[i], bias_hh = a + w.bias_hh, w.bias_hh.detach()
        changed[i * PARTS : (i + 1) * PARTS] = ih, w.hh, bias_ih, bias_hh, w.hr
    if instead:
        return x.detach(), changed, given
    return x if learning else x.clone(), changed, given


def _joined(a: Tensor | None, h0: Tensor, weights: Sequence[Tensor | None], walk: Walk) -> Tensor | None:
    """The pre-activations of x with what h0 adds to the first of them."""
    if a is None:
        return None
    i = int(walk.reverse)
    first = walk.before(h0[i], h0.new_zeros(a.shape[:-1].numel(), h0.shape[-1]))
    return a + linear(first, Weights(*part(weights, i)).hh).reshape(a.shape)


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def _one_step(
    rule: Any, x: Tensor, h0: Tensor, c0: Tensor | None, weights: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """One step in each direction, in which torch keeps no weight of a state that needs no gradient."""
    rows = x.reshape(-1, x.shape[-1])
    ends = []
    for i, w in enumerate(by_direction(weights)):
        h, *c = one_step(rule, rows, h0[i], None if c0 is None else c0[i], w[:4])
        ends.append((h if w.hr is None else linear(h, w.hr), *c))
    y = torch.cat([h for h, *_ in ends], -1)
    return y.reshape(*x.shape[:-1], y.shape[-1]), *map(torch.stack, zip(*ends, strict=True))


def one_way(x: Tensor, initial: Sequence[Tensor | None], weights: Sequence[Tensor | None]) -> int | None:
    """Which of two directions alone is differentiated, or None where both are, or there is but one."""
    # x and the states belong to both; a transform does not say what it differentiates
    if weights[PARTS] is None or not by_autograd(x, *initial, *weights) or any(map(wanted, (x, *initial))):
        return None
    learning = [i for i in range(2) if any(map(wanted, part(weights, i)))]
    return learning[0] if len(learning) == 1 else None
