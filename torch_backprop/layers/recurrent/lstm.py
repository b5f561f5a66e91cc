"""Long short-term memory. Hochreiter & Schmidhuber (1997), Neural Computation 9, 1735-1780.

The forget gate is of Gers, Schmidhuber & Cummins (2000), Neural Computation 12, 2451-2471; the projection of
Sak, Senior & Beaufays (2014), arXiv:1402.1128. Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs.
10.40-10.44 (forward).

With n = W x + d + U h + e of an input gate i, a forget gate f, a candidate g and an output gate o, in this
order, s the sigmoid, and (h, c) the states before:

    forward   i, f, o = s(n_i), s(n_f), s(n_o)     g = tanh(n_g)     c' = f c + i g     m = o tanh(c')
              h' = m, or with a projection h' = R m
    backward  dL/dm = q, or R^T q                  q = dL/dh' with all that comes from later steps
              p = dL/dc' + o (1 - tanh(c')^2) dL/dm
              dL/dn_i = p g i (1 - i)              dL/dn_f = p c f (1 - f)
              dL/dn_g = p i (1 - g^2)              dL/dn_o = dL/dm tanh(c') o (1 - o)
              dL/dc = f p                          dL/dh = U^T dL/dn         dL/dR = sum_t q_t m_t^T

since c' reaches the loss by the next step and by m, p has two terms. The cell states are the one thing that
follows from no matrix product: c' = f c + i g is walked once more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.recurrent.direction import Pulled, Weights, merged, through_states
from torch_backprop.layers.recurrent.layer import layer_rule
from torch_backprop.layers.recurrent.stack import Sequence, run
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.spec import LayerSpec, case


class Slopes(NamedTuple):
    """The derivatives at all steps.

    Attributes:
        inner: of c' by n_i, n_f and n_g, ``(N, 3, H)``.
        outer: of m by n_o.
        cell: of m by c'.
        forget: of c' by c.
        m: the state before its projection.
    """

    inner: Tensor
    outer: Tensor
    cell: Tensor
    forget: Tensor
    m: Tensor


class Lstm:
    """c' = f c + i g, m = o tanh(c')."""

    layer: Any = torch.lstm
    single: Any = torch.lstm_cell
    gated = True

    @classmethod
    def step(cls, a: Tensor, b: Tensor, states: States, w: Weights) -> States:
        i, f, g, o = _gates(a, b)
        c = f * states[1] + i * g
        m = o * torch.tanh(c)
        return m if w.hr is None else F.linear(m, w.hr), c

    @classmethod
    def slopes(cls, walk: Walk, y: Any, before: Any, c0: Any, a: Any, b: Any) -> Slopes:
        # from here on every line is for all steps, but for the walk of the cell states
        i, f, g, o = _gates(a, b)
        earlier, c = _cells(walk, c0, f, i * g)
        tanh_c = torch.tanh(c)
        inner = torch.stack((g * i * (1 - i), earlier * f * (1 - f), i * (1 - g * g)), 1)
        return Slopes(inner, tanh_c * o * (1 - o), o * (1 - tanh_c * tanh_c), f, o * tanh_c)

    @classmethod
    def pull(cls, walk: Walk, slopes: Slopes, grad_y: Tensor, last: States, w: Weights) -> Pulled:
        inner, outer, cell, forget, _ = map(walk.split, slopes)
        grads_y = walk.split(grad_y)
        # filled from the last step to the first
        q, grad_n = list(grads_y), list(grads_y)

        def step(t: int, grad_h: Tensor, grad_c: Tensor) -> States:
            # a state is an output of its step and an input of the next
            q[t] = grad_h + grads_y[t]
            grad_m = q[t] if w.hr is None else q[t] @ w.hr
            p = grad_c + cell[t] * grad_m
            grad_n[t] = torch.cat((merged(inner[t] * p.unsqueeze(1)), outer[t] * grad_m), 1)
            return through_states(grad_n[t], w), forget[t] * p

        states = walk.back(last, step)
        grads_n = torch.cat(grad_n)
        return Pulled(grads_n, grads_n, states, None if w.hr is None else torch.cat(q).mT @ slopes.m)

    @classmethod
    def push(
        cls,
        walk: Walk,
        slopes: Slopes,
        a: Tensor,
        b: Tensor,
        initial: States,
        w: Weights,
        tangent_w: Weights,
    ) -> tuple[Tensor, States]:
        inner, outer, cell, forget, m = map(walk.split, slopes)
        fixed = walk.split(a + b)
        y = list(fixed)

        def step(t: int, h: Tensor, c: Tensor) -> States:
            by_c, by_o = (fixed[t] + F.linear(h, w.hh)).tensor_split([3 * c.shape[1]], 1)
            c = forget[t] * c + (inner[t] * by_c.unflatten(1, (3, c.shape[1]))).sum(1)
            y[t] = cell[t] * c + outer[t] * by_o
            if w.hr is not None:
                y[t] = F.linear(y[t], w.hr)
            if tangent_w.hr is not None:
                y[t] = y[t] + F.linear(m[t], tangent_w.hr)
            return y[t], c

        last = walk.there(initial, step)
        return torch.cat(y), last


RULE = layer_rule(Lstm)


class LSTM(torch.nn.LSTM):
    """Drop-in for :class:`torch.nn.LSTM`, whose constructor, state and repr it inherits.

    ``torch.compile`` refuses every module of that class unless ``torch._dynamo.config.allow_rnn`` is set.
    """

    def forward(
        self, input: Sequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Sequence, tuple[Tensor, Tensor]]:
        """Maps ``(T, B, input_size)`` and states ``(layers * directions, B, *)`` to y and last states.

        ``(B, T, input_size)`` with ``batch_first``, ``(T, input_size)`` without a batch, or a packed one.
        As torch's it compiles if ``torch._dynamo.config.allow_rnn`` is set.
        """
        output, (h, c) = run(self, RULE, input, hx)
        return output, (h, c)


def _gates(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    i, f, g, o = (a + b).chunk(4, -1)
    return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)


def _cells(walk: Walk, c0: Tensor, forget: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """The cell states before and after each step."""
    f, ig = walk.split(forget), walk.split(added)
    earlier, later = list(f), list(f)

    def step(t: int, c: Tensor) -> States:
        earlier[t], later[t] = c, f[t] * c + ig[t]
        return (later[t],)

    walk.there((c0,), step)
    return torch.cat(earlier), torch.cat(later)


SPECS = (
    LayerSpec(
        LSTM,
        torch.nn.LSTM,
        (
            case((2, 3, 4), input_size=4, hidden_size=2, batch_first=True),
            case((2, 3, 4), input_size=4, hidden_size=3, proj_size=2, batch_first=True, bias=False),
        ),
        large=case((128, 32, 256), input_size=256, hidden_size=256),
    ),
)
