"""Cells with one state, where each element has its own pre-activations.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 10.20-10.21.

With A = df/da, B = df/db and k of each step, and q_t = dL/dh_t with all that comes from later steps:

    forward   h_t = f(a_t, b_t) + k_t h_(t-1)
    backward  dL/da_t = A_t q_t     dL/db_t = B_t q_t     q_(t-1) = g_(t-1) + U^T dL/db_t + k_t q_t

since h_(t-1) reaches the loss as an output, through b_t = U h_(t-1) + e, and by k_t. The forward-mode rule
walks the other way: dh_t = A_t da_t + B_t (db_t + U dh_(t-1)) + k_t dh_(t-1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.recurrent.direction import Pulled, Weights, merged, through_states
from torch_backprop.layers.recurrent.walk import States, Walk


class Slopes(NamedTuple):
    """The derivatives A and B ``(N, pre-activations, H)`` and k ``(N, H)`` of the new state at all steps."""

    a: Tensor
    b: Tensor
    keep: Tensor | None


class SingleStateCell:
    """The two walks of a cell with one state."""

    times = staticmethod(torch.mul)
    """The product of slopes ``(N, gates, H)`` with as many numbers."""

    @classmethod
    def pull(cls, walk: Walk, slopes: Slopes, grad_y: Tensor, last: States, w: Weights) -> Pulled:
        grads_y, b, keep = _steps(walk, grad_y, slopes.b, slopes.keep)
        q, grad_b = list(grads_y), list(grads_y)

        def step(t: int, grad_h: Tensor) -> States:
            q[t] = grad_h + grads_y[t]
            grad_b[t] = merged(cls.times(b[t], q[t].unsqueeze(1)))
            earlier = through_states(grad_b[t], w)
            return (earlier if slopes.keep is None else earlier + keep[t] * q[t],)

        states = walk.back(last, step)
        grads_b = torch.cat(grad_b)
        # without gates that tell a from b they have one gradient
        if slopes.a is slopes.b:
            return Pulled(grads_b, grads_b, states)
        return Pulled(merged(cls.times(slopes.a, torch.cat(q).unsqueeze(1))), grads_b, states)

    @classmethod
    def push(
        cls, walk: Walk, slopes: Slopes, a: Tensor, b: Tensor, initial: States, w: Weights, tangent_w: Weights
    ) -> tuple[Tensor, States]:
        gates = slopes.a.shape[1:]
        # what moves at fixed states is known for all steps before the walk
        fixed = cls.times(slopes.a, a.unflatten(1, gates)) + cls.times(slopes.b, b.unflatten(1, gates))
        moved, slopes_b, keep = _steps(walk, fixed.sum(1), slopes.b, slopes.keep)
        y = list(moved)

        def step(t: int, h: Tensor) -> States:
            y[t] = moved[t] + cls.times(slopes_b[t], F.linear(h, w.hh).unflatten(1, gates)).sum(1)
            if slopes.keep is not None:
                y[t] = y[t] + keep[t] * h
            return (y[t],)

        last = walk.there(initial, step)
        return torch.cat(y), last


def _steps(walk: Walk, rows: Tensor, b: Tensor, keep: Tensor | None) -> tuple[tuple[Tensor, ...], ...]:
    return walk.split(rows), walk.split(b), () if keep is None else walk.split(keep)
