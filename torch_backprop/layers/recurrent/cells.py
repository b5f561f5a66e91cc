"""One step of a recurrent layer: RNNCell, LSTMCell and GRUCell.

A cell is a layer walked for one step; its derivation is the layer's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.linear import linear
from torch_backprop.layers.recurrent.direction import Cell, Direction, Weights
from torch_backprop.layers.recurrent.elman import CELLS
from torch_backprop.layers.recurrent.gru import Gru
from torch_backprop.layers.recurrent.layer import in_layout, is_by_columns
from torch_backprop.layers.recurrent.lstm import Lstm
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.rule import Rule, by_autograd, is_batched, private, wanted, widen
from torch_backprop.spec import LayerSpec, case


def cell_rule(cell: type[Cell]) -> Any:
    """The rule of one step of such a cell, of rows ``(B, *)``; returns the next states."""

    class CellRule(Rule):
        """Saves x, or a if given, and the states; without gates h', and what weights' gradients multiply.

        Of an LSTM whose weights do not learn, a given a has the part of h in it, and h is not saved.
        """

        gated = cell.gated

        @staticmethod
        def forward(
            x: Tensor,
            h: Tensor,
            c: Tensor | None,
            ih: Tensor,
            hh: Tensor,
            bias_ih: Tensor | None,
            bias_hh: Tensor | None,
            a: Tensor | None,
        ) -> Any:
            return _forward(cell, x, (h,) if c is None else (h, c), ih, hh, bias_ih, bias_hh)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: States) -> None:
            _save(cell, ctx, inputs, output[0])

        @staticmethod
        def backward(ctx: Any, *last: Tensor) -> tuple[Tensor | None, ...]:
            return _pull(cell, ctx, last)

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor | None, *tangents: Any) -> States:
            return _push(cell, ctx, tangent_x, tangents)

    CellRule.__name__ = CellRule.__qualname__ = f"{cell.__name__}CellRule"
    return CellRule


RNN_RULES = {"tanh": cell_rule(CELLS["RNN_TANH"]), "relu": cell_rule(CELLS["RNN_RELU"])}
GRU_RULE = cell_rule(Gru)
LSTM_RULE = cell_rule(Lstm)


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
    states = _applied(rule, x, hx[0], hx[1] if count == 2 else None, weights)
    return states if input.dim() == 2 else tuple(state.squeeze(0) for state in states)


def _applied(rule: Any, x: Tensor, h: Tensor, c: Tensor | None, weights: tuple[Any, ...]) -> States:
    """Calls the rule, so that it keeps no input which the built-in does not keep."""
    ih, hh, bias_ih, bias_hh = weights
    a = None
    # in this order: Dynamo reads no attributes of a rule
    if by_autograd(x, h, c, *weights) and rule.gated:
        frozen, joined = not wanted(ih), _joined(c, ih, hh)
        wide = x.shape[-1] + (h.shape[-1] if joined else 0) > len(ih)
        if frozen and wide:
            a = linear(x, ih, bias_ih)
            a = a + linear(h, hh) if joined else a
            # their gradients come through a
            x, bias_ih = x.detach(), None if bias_ih is None else bias_ih.detach()
        elif frozen:
            x = private(x, h, c, *weights)
        if joined and wide:
            h = h.detach()
        elif not wanted(hh):
            h = private(h, x, c, *weights)
    return rule.call(x, h, c, ih, hh, bias_ih, bias_hh, a)


def _joined(c: Tensor | None, ih: Tensor, hh: Tensor) -> bool:
    """Whether the part of h may be kept in that of x: the gates of an LSTM only add them."""
    return c is not None and not wanted(ih) and not wanted(hh)


def _forward(cell: type[Cell], x: Tensor, states: States, *weights: Any) -> Any:
    ih, hh, bias_ih, bias_hh = weights
    w = Weights(ih, hh, bias_ih, bias_hh, None)
    if any(map(is_batched, (x, *states, *w))):
        return cell.step(F.linear(x, ih, bias_ih), F.linear(states[0], hh, bias_hh), states, w)
    return _together(cell.single(x, states if len(states) == 2 else states[0], *weights))


def _save(cell: type[Cell], ctx: Any, inputs: tuple[Any, ...], y: Tensor) -> None:
    x, h, c, *weights, a = inputs
    ctx.dtypes = tuple(tensor.dtype if isinstance(tensor, Tensor) else None for tensor in inputs)
    ctx.by_columns = is_by_columns(x), is_by_columns(h)
    needs_ih, needs_hh = ctx.needs_input_grad[3:5]
    # without gates the slopes follow from y, and with gates from all the rest
    kept_y = None if cell.gated else y
    kept_x = x if (cell.gated and a is None) or needs_ih else None
    kept_h = h if needs_hh or (cell.gated and not (a is not None and _joined(c, *weights[:2]))) else None
    ctx.save_for_backward(kept_x, kept_y, kept_h, c, *weights, a)
    ctx.save_for_forward(x, kept_y, h, c, *weights, a)


def _pull(cell: type[Cell], ctx: Any, last: States) -> tuple[Tensor | None, ...]:
    saved = [None if tensor is None else widen(tensor).conj() for tensor in ctx.saved_tensors]
    needs_x, *needs_states = ctx.needs_input_grad[:3]
    # False stands for the projection, which no cell has
    *needs_w, needs_a = ctx.needs_input_grad[3:]
    needs = (needs_x, *needs_states[: len(last)], *needs_w, False, needs_a)
    grads_last = tuple(map(widen, last))
    direction = _direction(cell, saved)
    # a cell is a walk of one step, whose output is its last state: it is given there
    *grads, _, grad_a = direction.pull(torch.zeros_like(grads_last[0]), grads_last, needs)
    grads.append(grad_a)
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
    _, last = _direction(cell, saved).push(moved, tuple(starts), Weights._make((*tangents[2:-1], None)))
    return tuple(tangent.to(ctx.dtypes[1]) for tangent in last)


def _direction(cell: type[Cell], saved: list[Any]) -> Direction:
    y: Any
    x, y, h, c, *weights, a = saved
    # what h adds may be in a already
    h = torch.zeros_like(c) if h is None and c is not None else h
    # of one step nothing comes before y but h
    y = h if y is None else y
    return Direction(cell, Walk((y.shape[0],), False), x, y, (h, c), Weights._make((*weights, None)), a)


def _together(states: Any) -> States:
    return (states,) if isinstance(states, Tensor) else states


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
