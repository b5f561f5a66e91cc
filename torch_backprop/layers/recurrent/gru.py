"""The gated recurrent unit. Cho et al. (2014), arXiv:1406.1078, eqs. 5-8, with the reset gate after U h.

With pre-activations a = W x + d and b = U h + e of a reset gate r, an update gate z and a candidate n, in
this order, s the sigmoid, and h the state before:

    forward   r = s(a_r + b_r)     z = s(a_z + b_z)     n = tanh(a_n + r b_n)     h' = n + z (h - n)
    slopes    dh'/da_n = (1 - z) (1 - n^2)              dh'/db_n = r dh'/da_n
              dh'/da_z = (h - n) z (1 - z)              dh'/da_r = b_n r (1 - r) dh'/da_n
    backward  that of ``single``, with A and B these slopes by a and b, and k = z

The slopes by b_z and b_r are those by a_z and a_r, since they are only added; and besides dh'/dh = z, since h
itself is in h' too, not only b.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.recurrent.direction import Weights
from torch_backprop.layers.recurrent.layer import layer_rule
from torch_backprop.layers.recurrent.single import SingleStateCell, Slopes
from torch_backprop.layers.recurrent.stack import Sequence, run
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.spec import LayerSpec, case


class Gru(SingleStateCell):
    """h' = n + z (h - n)."""

    layer: Any = torch.gru
    single: Any = torch.gru_cell
    gated = True

    @classmethod
    def step(cls, a: Tensor, b: Tensor, states: States, w: Weights) -> States:
        (h,) = states
        _, z, n, _ = _gates(a, b)
        # in this order, by which the result lies in memory as h does
        return ((h - n) * z + n,)

    @classmethod
    def slopes(cls, walk: Walk, y: Any, before: Any, c0: Any, a: Any, b: Any) -> Slopes:
        r, z, n, b_n = _gates(a, b)
        # by a_n; by b_n it is r times that, for the reset gate stands between them
        candidate = (1 - z) * (1 - n * n)
        reset = candidate * b_n * r * (1 - r)
        update = (before - n) * z * (1 - z)
        by_b = (r * candidate,) if b.shape == b_n.shape else (reset, update, r * candidate)
        return Slopes(torch.stack((reset, update, candidate), 1), torch.stack(by_b, 1), z)


RULE = layer_rule(Gru)


class GRU(torch.nn.GRU):
    """Drop-in for :class:`torch.nn.GRU`, whose constructor, state and repr it inherits.

    ``torch.compile`` refuses every module of that class unless ``torch._dynamo.config.allow_rnn`` is set.
    """

    def forward(self, input: Sequence, hx: Tensor | None = None) -> tuple[Sequence, Tensor]:
        """Maps ``(T, B, input_size)`` and ``(layers * directions, B, hidden_size)`` to y and last states.

        ``(B, T, input_size)`` with ``batch_first``, ``(T, input_size)`` without a batch, or a packed one.
        As torch's it compiles if ``torch._dynamo.config.allow_rnn`` is set.
        """
        output, (h,) = run(self, RULE, input, None if hx is None else (hx,))
        return output, h


def _gates(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, z, n and b_n; b may be b_n alone, its other parts in a."""
    a_r, a_z, a_n = a.chunk(3, -1)
    *added, b_n = b.split(a_n.shape[-1], -1)
    b_r, b_z = added or (0, 0)
    r = torch.sigmoid(a_r + b_r)
    return r, torch.sigmoid(a_z + b_z), torch.tanh(a_n + r * b_n), b_n


SPECS = (
    LayerSpec(
        GRU,
        torch.nn.GRU,
        (
            case((3, 2, 2), (1, 2, 2), input_size=2, hidden_size=2),
            case((2, 3, 4), input_size=4, hidden_size=2, batch_first=True, bidirectional=True, bias=False),
        ),
        large=case((128, 32, 256), input_size=256, hidden_size=256),
    ),
)
