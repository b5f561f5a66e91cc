"""One direction of a recurrent layer, linearized at all steps at once, whatever its cell.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 10.20-10.28 (backpropagation through time).

With pre-activations a_t = W x_t + d of the input and b_t = U h_(t-1) + e of the state, a cell is the map
from (a_t, b_t, state) to the next state. Backpropagation through time (Werbos 1990, Proc. IEEE 78) walks back
with the gradient of the state, and leaves dL/da_t and dL/db_t at every step. The rest knows no time:

    forward   a_t = W x_t + d               b_t = U h_(t-1) + e
    backward  dL/dW = sum_t (dL/da_t)^T x_t     dL/dU = sum_t (dL/db_t)^T h_(t-1)     dL/dx_t = dL/da_t W

each of them one matrix product over all steps. The one non-obvious step is what is kept: x and y, and no
gate. Since h_(t-1) is y one step earlier, two matrix products give all pre-activations again, and the local
derivatives of all steps; only the walk back goes step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.recurrent.product import product
from torch_backprop.layers.recurrent.walk import States, Walk


class Weights(NamedTuple):
    """The weights of a direction, their gradients or their tangents; None where there is none to read."""

    ih: Any
    hh: Any
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    hr: Tensor | None


class Pulled(NamedTuple):
    """What a walk back leaves: the gradients of a and b at all steps, of the initial states, and of hr."""

    a: Tensor
    b: Tensor
    states: States
    hr: Tensor | None = None


class Cell(Protocol):
    """A kind of cell: torch's operators, and its local derivatives."""

    layer: Any
    """torch's operator for a layer."""
    single: Any
    """torch's operator for one step."""
    gated: bool
    """Whether the local derivatives need more than y."""

    @classmethod
    def step(cls, a: Tensor, b: Tensor, states: States, w: Weights) -> States:
        """The states after one step."""
        ...

    @classmethod
    def slopes(cls, walk: Walk, y: Any, before: Any, c0: Any, a: Any, b: Any) -> Any:
        """The local derivatives at all steps, of rows ``(N, *)``; without gates from y alone."""
        ...

    @classmethod
    def pull(cls, walk: Walk, slopes: Any, grad_y: Tensor, last: States, w: Weights) -> Pulled:
        """Walks back, with the gradients of y and of the last states."""
        ...

    @classmethod
    def push(
        cls, walk: Walk, slopes: Any, a: Tensor, b: Tensor, initial: States, w: Weights, tangent_w: Weights
    ) -> tuple[Tensor, States]:
        """Walks on, with the tangents of the initial states, and those of a and b at fixed states."""
        ...


class Direction:
    """One direction, with its local derivatives.

    Args:
        cell: the kind of cell.
        walk: the direction through time.
        x: rows ``(N, I)`` of the input, or None where neither gates nor gradients need it.
        y: rows ``(N, P)`` of the output, or None where there is one step and a gate.
        initial: the initial states h and c ``(B, *)``, or None where there is none or h is not needed.
        w: the weights, or None for those that are not read.
        a: rows of the pre-activations of x, where they were kept instead of x and its weights.
        b: the same of the states.
    """

    def __init__(
        self,
        cell: type[Cell],
        walk: Walk,
        x: Tensor | None,
        y: Tensor | None,
        initial: Sequence[Any],
        w: Weights,
        a: Tensor | None = None,
        b: Tensor | None = None,
    ) -> None:
        self.cell, self.walk, self.x, self.w = cell, walk, x, w
        h0, c0 = initial
        self.before = None if h0 is None else h0 if y is None else walk.before(h0, y)
        # an ungated cell's slopes follow from y: neither x nor the weights are read
        if cell.gated:
            a = _activations(self.x, w.ih, w.bias_ih, a)
            b = _activations(self.before, w.hh, w.bias_hh, b)
        self.slopes = cell.slopes(walk, y, self.before, c0, a, b)

    def pull(self, grad_y: Tensor, last: States, needs: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of x, of the initial states, of the weights, of a and of b, where ``needs`` says so."""
        pulled = self.cell.pull(self.walk, self.slopes, grad_y, last, self.w)
        needs_x, *needs_states = needs[: 1 + len(last)]
        ih, hh, bias_ih, bias_hh, hr, needs_a, needs_b = needs[1 + len(last) :]
        states = zip(pulled.states, needs_states, strict=True)
        return [
            # one product over all steps each: the walk is over
            product(pulled.a, self.w.ih.mT) if needs_x else None,
            *(state if needed else None for state, needed in states),
            product(pulled.a.mT, known(self.x).mT) if ih else None,
            product(pulled.b.mT, known(self.before).mT) if hh else None,
            pulled.a.sum(0) if bias_ih else None,
            pulled.b.sum(0) if bias_hh else None,
            pulled.hr if hr else None,
            pulled.a if needs_a else None,
            pulled.b if needs_b else None,
        ]

    def push(self, tangent_x: Tensor | None, initial: States, tangent_w: Weights) -> tuple[Tensor, States]:
        """Tangents of y and of the last states."""
        x, before = known(self.x), known(self.before)
        # at fixed states: how they move is the walk's part
        a = _affine(x, tangent_w.ih, tangent_w.bias_ih, self.w.ih)
        b = _affine(before, tangent_w.hh, tangent_w.bias_hh, self.w.hh)
        a = a if tangent_x is None else a + F.linear(tangent_x, self.w.ih)
        return self.cell.push(self.walk, self.slopes, a, b, initial, self.w, tangent_w)


def unrolled(cell: type[Cell], walk: Walk, x: Tensor, initial: States, w: Weights) -> tuple[Tensor, States]:
    """The forward pass step by step, for what torch's operator cannot batch."""
    a = walk.split(F.linear(x, w.ih, w.bias_ih))
    y: list[Tensor] = list(a)

    def step(t: int, *states: Tensor) -> States:
        states = cell.step(a[t], F.linear(states[0], w.hh, w.bias_hh), states, w)
        y[t] = states[0]
        return states

    last = walk.there(initial, step)
    return torch.cat(y), last


def through_states(grad_b: Tensor, w: Weights) -> Tensor:
    """What comes back through U h; nothing, of the only step, where the state before it needs no gradient."""
    return grad_b @ w.hh if w.hh is not None else grad_b.new_zeros(())


def merged(gates: Tensor) -> Tensor:
    """``(N, gates, H)`` as ``(N, gates H)``; not by ``flatten``, which is_grads_batched cannot batch."""
    return gates.reshape(gates.shape[0], gates.shape[1] * gates.shape[2])


def _activations(rows: Tensor | None, w: Tensor | None, bias: Tensor | None, given: Any) -> Any:
    """The pre-activations again, if they were not kept; 0 where those of the others have them in them."""
    if w is None or given is not None:
        return 0 if given is None else given
    return product(known(rows), w, bias)


def _affine(rows: Tensor, w: Tensor | None, bias: Tensor | None, like: Tensor) -> Tensor:
    """The pre-activations of tangent weights, of which any may be missing."""
    zeros = rows.new_zeros(rows.shape[0], like.shape[0])
    product = zeros if w is None else F.linear(rows, w)
    return product if bias is None else product + bias


def known(rows: Tensor | None) -> Tensor:
    """What may have been left out, where it is used."""
    assert rows is not None, "kept whenever it is used"
    return rows
