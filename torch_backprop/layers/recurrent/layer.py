"""The rule of a recurrent layer: torch's forward pass, and each direction pulled back or pushed forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.recurrent.direction import Cell, Direction, Weights, unrolled
from torch_backprop.layers.recurrent.walk import Walk
from torch_backprop.rule import Rule, widen

PARTS = len(Weights._fields)
"""Arguments of the rule for each direction."""


def layer_rule(cell: Cell) -> Any:
    """The rule of a layer ``(x, sizes, h0, c0, *weights)`` of such cells, of one direction or two.

    ``x`` is ``(T, B, I)``, or the rows ``(N, I)`` of a packed batch with ``sizes`` at each step; ``h0`` and
    ``c0`` are ``(directions, B, *)``; weights come in the order of :class:`Weights`. Returns y and last states.
    """

    class LayerRule(Rule):
        """Saves x, y and the initial states; without gates only those that the weights' gradients multiply."""

        @staticmethod
        def forward(x: Tensor, sizes: Tensor | None, h0: Tensor, c0: Tensor | None, *weights: Any) -> Any:
            if any(_is_batched(tensor) for tensor in (x, h0, c0, *weights)):
                return _unrolled(cell, x, sizes, h0, c0, weights)
            initial = h0 if c0 is None else (h0, c0)
            flat = [weight for weight in weights if weight is not None]
            lengths = () if sizes is None else (sizes,)
            # one layer; no dropout, which has a rule of its own
            options = (weights[2] is not None, 1, 0.0, False, len(weights) > PARTS)
            order = (False,) if sizes is None else ()
            return cell.layer(x, *lengths, initial, flat, *options, *order)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            x, sizes, h0, c0, *weights = inputs
            ctx.sizes = None if sizes is None else tuple(sizes.tolist())
            single = x.squeeze(1) if x.dim() == 3 else x
            ctx.by_columns = single.dim() == 2 and single.stride() == (1, single.shape[0])
            ctx.x_shape, ctx.dtypes = x.shape, tuple(getattr(tensor, "dtype", None) for tensor in inputs)
            needs = ctx.needs_input_grad[4:]
            kept_x = x if cell.gated or any(needs[0::PARTS]) else None
            kept_h0 = h0 if cell.gated or any(needs[1::PARTS]) else None
            ctx.save_for_backward(kept_x, output[0], kept_h0, c0, *weights)
            ctx.save_for_forward(x, output[0], h0, c0, *weights)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor, *last: Tensor) -> tuple[Tensor | None, ...]:
            # the derivative of a holomorphic function at conj x is that at x, conjugated
            directions = _directions(cell, ctx, torch.conj)
            needs_x, _, needs_h0, needs_c0, *needs_w = ctx.needs_input_grad
            needs_states = (needs_h0, needs_c0)[: len(last)]
            columns = _rows(widen(grad_y)).chunk(len(directions), -1)
            found = []
            for i, direction in enumerate(directions):
                needs = (needs_x, *needs_states, *needs_w[i * PARTS : (i + 1) * PARTS])
                found.append(direction.pull(columns[i], tuple(widen(state[i]) for state in last), needs))
            grad_x = sum(grads[0] for grads in found) if needs_x else None
            if grad_x is not None:
                # in the layout of x, as torch returns it
                grad_x = (grad_x.mT.contiguous().mT if ctx.by_columns else grad_x).reshape(ctx.x_shape)
            states = [_stack([grads[1 + k] for grads in found]) for k in range(len(last))]
            weights = [grad for grads in found for grad in grads[1 + len(last) :]]
            grads = (grad_x, None, *states, *(None for _ in range(2 - len(last))), *weights)
            return tuple(
                None if grad is None else grad.to(dtype)
                for grad, dtype in zip(grads, ctx.dtypes, strict=True)
            )

        @staticmethod
        def jvp(ctx: Any, tangent_x: Any, _: None, tangent_h0: Any, tangent_c0: Any, *tangents: Any) -> Any:
            y, *initial = ctx.saved_tensors[1:4]
            directions = _directions(cell, ctx, lambda tensor: tensor)
            rows = None if tangent_x is None else _rows(widen(tangent_x))
            pairs = zip((tangent_h0, tangent_c0), initial, strict=True)
            starts = [
                widen(torch.zeros_like(state) if tangent is None else tangent)
                for tangent, state in pairs
                if state is not None
            ]
            pushed = [
                direction.push(
                    rows,
                    tuple(start[i] for start in starts),
                    Weights(*tangents[i * PARTS : (i + 1) * PARTS]),
                )
                for i, direction in enumerate(directions)
            ]
            tangent_y = torch.cat([rows for rows, _ in pushed], -1).reshape(y.shape)
            last = [torch.stack(states) for states in zip(*(states for _, states in pushed), strict=True)]
            return tuple(tangent.to(y.dtype) for tangent in (tangent_y, *last))

    LayerRule.__name__ = LayerRule.__qualname__ = f"{type(cell).__name__}LayerRule"
    return LayerRule


def _directions(cell: Cell, ctx: Any, change: Callable[[Tensor], Tensor]) -> list[Direction]:
    saved = [None if tensor is None else change(widen(tensor)) for tensor in ctx.saved_tensors]
    x, y, h0, c0, *weights = saved
    count = len(weights) // PARTS
    sizes = ctx.sizes or (y.shape[1],) * y.shape[0]
    columns = _rows(y).chunk(count, -1)
    states = [state for state in (h0, c0) if state is not None] or [None]
    return [
        Direction(
            cell,
            Walk(sizes, i == 1),
            None if x is None else _rows(x),
            columns[i],
            [None if state is None else state[i] for state in states],
            Weights(*weights[i * PARTS : (i + 1) * PARTS]),
        )
        for i in range(count)
    ]


def _unrolled(cell: Cell, x: Tensor, sizes: Any, h0: Tensor, c0: Any, weights: tuple[Any, ...]) -> Any:
    steps = (x.shape[1],) * x.shape[0] if sizes is None else tuple(sizes.tolist())
    initial = [h0] if c0 is None else [h0, c0]
    ran = [
        unrolled(
            cell,
            Walk(steps, i == 1),
            _rows(x),
            tuple(state[i] for state in initial),
            Weights(*weights[i * PARTS : (i + 1) * PARTS]),
        )
        for i in range(len(weights) // PARTS)
    ]
    y = torch.cat([rows for rows, _ in ran], -1)
    last: list[Any] = [torch.stack(states) for states in zip(*(states for _, states in ran), strict=True)]
    return (y.reshape(*x.shape[:-1], y.shape[-1]), *last)


def _is_batched(tensor: Any) -> bool:
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return isinstance(tensor, Tensor) and functorch.is_batchedtensor(tensor)


def _rows(tensor: Tensor) -> Tensor:
    # not reshape(-1, n): with zero elements the other size would be ambiguous
    return tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])


def _stack(states: list[Tensor | None]) -> Tensor | None:
    present = [state for state in states if state is not None]
    return torch.stack(present) if present else None
