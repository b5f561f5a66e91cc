"""Elman's recurrent layer. Elman (1990), Cognitive Science 14, 179-211.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 10.8-10.9 and 10.21.

With pre-activations a_t = W x_t + d and b_t = U h_(t-1) + e:

    forward   h_t = f(a_t + b_t)     f = tanh or max(0, .)
    slopes    dh_t/da_t = dh_t/db_t = f' = 1 - h_t^2, or [h_t > 0]
    backward  that of ``single``, with A = B = f' and k = 0

since tanh' = 1 - tanh^2: the slope follows from the output, and of the pre-activations nothing is needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import keep, select
from torch_backprop.layers.recurrent.direction import Weights
from torch_backprop.layers.recurrent.layer import layer_rule
from torch_backprop.layers.recurrent.single import SingleStateCell, Slopes
from torch_backprop.layers.recurrent.stack import Sequence, run
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.rule import first_order
from torch_backprop.spec import LayerSpec, case


class Tanh(SingleStateCell):
    """h = tanh(a + b)."""

    layer: Any = torch.rnn_tanh
    single: Any = torch.rnn_tanh_cell
    gated = False

    @classmethod
    def step(cls, a: Tensor, b: Tensor, states: States, w: Weights) -> States:
        return (torch.tanh(a + b),)

    @classmethod
    def slopes(cls, walk: Walk, y: Any, before: Any, c0: Any, a: Any, b: Any) -> Slopes:
        # one pre-activation an element, so that a and b have the same slope
        slope = (1 - y * y).unsqueeze(1)
        return Slopes(slope, slope, None)


class Relu(SingleStateCell):
    """h = max(0, a + b)."""

    layer: Any = torch.rnn_relu
    single: Any = torch.rnn_relu_cell
    gated = False

    @staticmethod
    def times(slopes: Tensor, g: Tensor) -> Tensor:
        # chosen, not multiplied: an infinite gradient leaves no trace where the state is zero
        if first_order(g, slopes) and g.device.type == "cpu":
            return keep(torch.empty_like(slopes), g, torch.gt, slopes, 0)
        return select(g, 0, torch.gt, slopes, 0)

    @classmethod
    def step(cls, a: Tensor, b: Tensor, states: States, w: Weights) -> States:
        return (torch.relu(a + b),)

    @classmethod
    def slopes(cls, walk: Walk, y: Any, before: Any, c0: Any, a: Any, b: Any) -> Slopes:
        # an undefined state passes its gradient on, as in torch
        slope = (y <= 0).logical_not().to(y.dtype).unsqueeze(1)
        return Slopes(slope, slope, None)


CELLS = {"RNN_TANH": Tanh, "RNN_RELU": Relu}
RULES = {mode: layer_rule(cell) for mode, cell in CELLS.items()}


class RNN(torch.nn.RNN):
    """Drop-in for :class:`torch.nn.RNN`, whose constructor, state and repr it inherits.

    ``torch.compile`` refuses every module of that class unless ``torch._dynamo.config.allow_rnn`` is set.
    """

    def forward(self, input: Sequence, hx: Tensor | None = None) -> tuple[Sequence, Tensor]:
        """Maps ``(T, B, input_size)`` and ``(layers * directions, B, hidden_size)`` to y and last states.

        ``(B, T, input_size)`` with ``batch_first``, ``(T, input_size)`` without a batch, or a packed one.
        As torch's it compiles if ``torch._dynamo.config.allow_rnn`` is set.
        """
        output, (h,) = run(self, RULES[self.mode], input, None if hx is None else (hx,))
        return output, h


SPECS = (
    LayerSpec(
        RNN,
        torch.nn.RNN,
        (
            case((3, 2, 2), (1, 2, 2), input_size=2, hidden_size=2),
            case((2, 3, 4), input_size=4, hidden_size=2, nonlinearity="relu", batch_first=True, bias=False),
        ),
        large=case((128, 32, 256), input_size=256, hidden_size=256),
    ),
)
