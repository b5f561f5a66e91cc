"""RNNCell, LSTMCell and GRUCell: one step of a recurrent layer, by the rule of ``step``.

The derivations are those of ``elman``, ``lstm`` and ``gru``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.recurrent import elman, gru, lstm
from torch_backprop.layers.recurrent.step import one_step
from torch_backprop.layers.recurrent.walk import States
from torch_backprop.spec import LayerSpec, case

RNN_RULES = {"tanh": elman.RULES["RNN_TANH"].step, "relu": elman.RULES["RNN_RELU"].step}
GRU_RULE = gru.RULE.step
LSTM_RULE = lstm.RULE.step


class RNNCell(torch.nn.RNNCell):
    """Drop-in for :class:`torch.nn.RNNCell`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Maps ``(B, input_size)`` and ``(B, hidden_size)``, or both without B, to ``(B, hidden_size)``."""
        if self.nonlinearity not in RNN_RULES:
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return _step(self, RNN_RULES[self.nonlinearity], input, None if hx is None else (hx,), 1)[0]


class GRUCell(torch.nn.GRUCell):
    """Drop-in for :class:`torch.nn.GRUCell`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Maps ``(B, input_size)`` and ``(B, hidden_size)``, or both without B, to ``(B, hidden_size)``."""
        return _step(self, GRU_RULE, input, None if hx is None else (hx,), 1)[0]


class LSTMCell(torch.nn.LSTMCell):
    """Drop-in for :class:`torch.nn.LSTMCell`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Maps ``(B, input_size)`` and two states ``(B, hidden_size)``, or all without B, to two states."""
        h, c = _step(self, LSTM_RULE, input, hx, 2)
        return h, c


def _step(module: Any, rule: Any, input: Tensor, hx: States | None, count: int) -> States:
    """The next states of a cell with ``count`` states.

    Raises:
        ValueError: a number of dimensions that does not fit, in torch's words.
        RuntimeError: sizes or dtypes that do not fit, in torch's words.
    """
    name = next(kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn."))
    names = ["hidden"] if count == 1 else ["hx[0]", "hx[1]"]
    for what, tensor in zip(("input", *names), (input, *(hx or ())), strict=False):
        if tensor.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected {what} to be 1D or 2D, got {tensor.dim()}D instead")
    x = input if input.dim() == 2 else input.unsqueeze(0)
    if hx is None:
        # one for each state: Dynamo takes no tensor twice
        size = (x.shape[0], module.hidden_size)
        hx = tuple(torch.zeros(size, dtype=x.dtype, device=x.device) for _ in range(count))
    elif input.dim() == 1:
        hx = tuple(state.unsqueeze(0) for state in hx)
    weights = module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh
    if any(state.shape != (x.shape[0], module.hidden_size) for state in hx):
        # torch refuses them, in its own words
        rule.cell.single(x, hx if count == 2 else hx[0], *weights)
    states = one_step(rule, x, hx[0], hx[1] if count == 2 else None, weights)
    return states if input.dim() == 2 else tuple(state.squeeze(0) for state in states)


SPECS = (
    LayerSpec(
        RNNCell,
        torch.nn.RNNCell,
        (
            case((2, 3), (2, 2), input_size=3, hidden_size=2),
            case((3,), input_size=3, hidden_size=2, nonlinearity="relu", bias=False),
        ),
        large=case((2048, 512), input_size=512, hidden_size=512),
    ),
    LayerSpec(
        GRUCell,
        torch.nn.GRUCell,
        (
            case((2, 3), (2, 2), input_size=3, hidden_size=2),
            case((3,), (2,), input_size=3, hidden_size=2, bias=False),
        ),
        large=case((2048, 512), input_size=512, hidden_size=512),
    ),
    LayerSpec(
        LSTMCell,
        torch.nn.LSTMCell,
        (
            case((2, 3), input_size=3, hidden_size=2),
            case((3,), input_size=3, hidden_size=2, bias=False),
        ),
        large=case((2048, 512), input_size=512, hidden_size=512),
    ),
)
