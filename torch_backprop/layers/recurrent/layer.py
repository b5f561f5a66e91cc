"""The rule of a recurrent layer: torch's forward pass, and its directions pulled back or pushed forward.

Its derivation is in ``direction``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.recurrent.direction import Cell, Direction, Weights, unrolled
from torch_backprop.layers.recurrent.step import cell_rule, in_layout, is_by_columns
from torch_backprop.layers.recurrent.walk import States, Walk
from torch_backprop.rule import Rule, is_batched, widen

PARTS = len(Weights._fields)
"""Arguments of the rule for each direction."""


def layer_rule(cell: type[Cell]) -> Any:
    """The rule of a layer of such cells, of one direction or two, which returns y and the last states.

    Its arguments are x ``(T, B, I)``, or the rows ``(N, I)`` of a packed batch with ``sizes`` at each step;
    h0 and c0 ``(directions, B, *)``; the weights of both directions, None for one that is not there; of
    each its pre-activations of x, if they are to be kept; and which of two directions alone is
    differentiated, if one is.
    """

    class LayerRule(Rule):
        """Saves x, y, the initial states and the weights; without gates y, and what the gradients multiply.

        Where only one direction is differentiated, its half of y is one more output, and is saved instead;
        where the pre-activations of x are given, they are, and x and its weights are not.
        """

        forward = staticmethod(_forward_of(cell))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            _save(cell, ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor, *last: Tensor) -> tuple[Tensor | None, ...]:
            return _pull(cell, ctx, grad_y, last)

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor | None, _: None, *tangents: Any) -> States:
            return _push(cell, ctx, tangent_x, tangents)

    kind: Any = LayerRule
    kind.cell, kind.step = cell, cell_rule(cell)
    LayerRule.__name__ = LayerRule.__qualname__ = f"{cell.__name__}LayerRule"
    return LayerRule


def _forward_of(cell: type[Cell]) -> Callable[..., Any]:
    def forward(
        x: Tensor,
        sizes: Tensor | None,
        h0: Tensor,
        c0: Tensor | None,
        # one by one, because Dynamo counts the parameters, and vmap takes no tuples
        ih: Tensor,
        hh: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
        hr: Tensor | None,
        ih_back: Tensor | None,
        hh_back: Tensor | None,
        bias_ih_back: Tensor | None,
        bias_hh_back: Tensor | None,
        hr_back: Tensor | None,
        a: Tensor | None,
        a_back: Tensor | None,
        only: int | None,
    ) -> Any:
        there = ih, hh, bias_ih, bias_hh, hr
        back = ih_back, hh_back, bias_ih_back, bias_hh_back, hr_back
        outputs = _forward(cell, x, sizes, [h0] if c0 is None else [h0, c0], (*there, *back))
        return outputs if only is None else (*outputs, outputs[0].chunk(2, -1)[only].clone())

    return forward


def _forward(
    cell: type[Cell], x: Tensor, sizes: Tensor | None, initial: list[Tensor], weights: tuple[Any, ...]
) -> Any:
    if any(map(is_batched, (x, *initial, *weights))):
        return stepped(cell, x, sizes, initial, weights)
    flat = [weight for weight in weights if weight is not None]
    states = initial if len(initial) == 2 else initial[0]
    # one layer; without dropout, which has a rule of its own
    options = (weights[2] is not None, 1, 0.0, False, weights[PARTS] is not None)
    if sizes is None:
        return cell.layer(x, states, flat, *options, False)
    return cell.layer(x, sizes, states, flat, *options)


def _save(cell: type[Cell], ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, sizes, h0, c0, *weights, a, a_back, ctx.only = inputs
    y = output[0 if ctx.only is None else -1]
    ctx.sizes = None if sizes is None else tuple(sizes.tolist())
    ctx.dtypes = tuple(tensor.dtype if isinstance(tensor, Tensor) else None for tensor in inputs)
    ctx.x_shape, ctx.by_columns = x.shape, is_by_columns(x.squeeze(1) if x.dim() == 3 else x)
    ctx.ways = [i for i in range(2) if ctx.only in (None, i) and weights[i * PARTS] is not None]
    needs = ctx.needs_input_grad[4:-3]
    kept_x = x if (cell.gated and a is a_back is None) or any(needs[0::PARTS]) else None
    # of an LSTM, which has c0, a has in it all that is only added: both biases, and h0 where U is frozen
    joined = c0 is not None and not (a is a_back is None)
    kept_h0 = h0 if any(needs[1::PARTS]) or (cell.gated and not joined) else None
    read = [w for i in range(2) for w in _read(cell, ctx, part(weights, i), i, (a, a_back)[i])]
    ctx.save_for_backward(kept_x, y, kept_h0, c0, *read, a, a_back)
    ctx.save_for_forward(x, y, h0, c0, *weights, a, a_back)


def _read(cell: type[Cell], ctx: Any, weights: Sequence[Any], i: int, a: Tensor | None) -> Weights:
    """The weights that are read again, of those of a direction."""
    if i not in ctx.ways:
        return Weights._make([None] * PARTS)
    w, steps = Weights._make(weights), ctx.x_shape[0] if ctx.sizes is None else len(ctx.sizes)
    needs_x, _, needs_h0, _ = ctx.needs_input_grad[:4]
    if not cell.gated:
        # the slopes follow from y, and what walks back is multiplied alone
        return Weights(w.ih if needs_x else None, w.hh if needs_h0 or steps > 1 else None, None, None, None)
    if a is None:
        return w
    return Weights(None, w.hh, None, w.bias_hh if ctx.dtypes[3] is None else None, w.hr)


def _pull(cell: type[Cell], ctx: Any, grad_y: Tensor, last: States) -> tuple[Tensor | None, ...]:
    # the derivative of a holomorphic function at conj x is that at x, conjugated
    directions = _directions(cell, ctx, torch.conj)
    needs_x, _, *needs_states = ctx.needs_input_grad[:4]
    grads_y = _rows(widen(grad_y)).chunk(last[0].shape[0], -1)
    if ctx.only is not None:
        last, grad_half = last[:-1], _rows(widen(last[-1]))
        grads_y = tuple(g + grad_half if i == ctx.only else g for i, g in enumerate(grads_y))
    found = {}
    for i, direction in directions.items():
        needs_w, needs_a = part(ctx.needs_input_grad[4:], i), ctx.needs_input_grad[-3 + i]
        needs = (needs_x, *needs_states[: len(last)], *needs_w, needs_a, False)
        found[i] = direction.pull(grads_y[i], tuple(widen(state[i]) for state in last), needs)
    grads_x, *rest = zip(*found.values(), strict=True)
    grads: list[Tensor | None] = [None for _ in ctx.needs_input_grad]
    if needs_x:
        grad_x = in_layout(sum(grads_x[1:], grads_x[0]), ctx.by_columns)
        grads[0] = grad_x.reshape(ctx.x_shape)
    for k in range(len(last)):
        grads[2 + k] = torch.stack(rest[k]) if needs_states[k] else None
    for i, pulled in found.items():
        *grads_w, grad_a, _ = pulled[1 + len(last) :]
        grads[4 + i * PARTS : 4 + (i + 1) * PARTS] = grads_w
        grads[-3 + i] = None if grad_a is None else grad_a.reshape(*ctx.x_shape[:-1], grad_a.shape[-1])
    return tuple(grad if grad is None else grad.to(to) for grad, to in zip(grads, ctx.dtypes, strict=True))


def _push(cell: type[Cell], ctx: Any, tangent_x: Tensor | None, tangents: tuple[Any, ...]) -> States:
    _, y, *initial = ctx.saved_tensors[:4]
    rows = None if tangent_x is None else _rows(widen(tangent_x))
    starts = [
        widen(torch.zeros_like(state) if tangent is None else tangent)
        for tangent, state in zip(tangents[:2], initial, strict=True)
        if state is not None
    ]
    weights = tuple(None if tangent is None else widen(tangent) for tangent in tangents[2:-3])
    pushed = [
        direction.push(rows, tuple(start[i] for start in starts), Weights(*part(weights, i)))
        for i, direction in _directions(cell, ctx, lambda saved: saved).items()
    ]
    return tuple(tangent.to(y.dtype) for tangent in _joined(pushed, y.shape[:-1]))


def stepped(
    cell: type[Cell], x: Tensor, sizes: Tensor | None, initial: list[Tensor], weights: tuple[Any, ...]
) -> Any:
    """The forward pass step by step, for vmap, which cannot batch torch's operator."""
    steps = steps_of(x, sizes)
    ran = [
        unrolled(cell, Walk(steps, i == 1), _rows(x), tuple(state[i] for state in initial), w)
        for i, w in enumerate(by_direction(weights))
    ]
    return _joined(ran, x.shape[:-1])


def _directions(cell: type[Cell], ctx: Any, change: Callable[[Tensor], Tensor]) -> dict[int, Direction]:
    saved: list[Any] = [None if tensor is None else change(widen(tensor)) for tensor in ctx.saved_tensors]
    x, y, h0, c0, *weights, a, a_back = saved
    sizes = ctx.sizes or (ctx.x_shape[1],) * ctx.x_shape[0]
    if h0 is None and c0 is not None:
        h0 = c0.new_zeros(*c0.shape[:2], weights[1 + PARTS * ctx.ways[0]].shape[1])
    return {
        i: Direction(
            cell,
            Walk(sizes, i == 1),
            None if x is None else _rows(x),
            rows,
            [None if state is None else state[i] for state in (h0, c0)],
            Weights(*part(weights, i)),
            None if given is None else _rows(given),
        )
        for i, rows in zip(ctx.ways, _rows(y).chunk(len(ctx.ways), -1), strict=True)
        for given in [(a, a_back)[i]]
    }


def steps_of(x: Tensor, sizes: Tensor | None) -> tuple[int, ...]:
    """How many sequences there are at each step."""
    return (x.shape[1],) * x.shape[0] if sizes is None else tuple(sizes.tolist())


def by_direction(weights: Sequence[Any]) -> list[Weights]:
    """The weights of each direction that there is."""
    found = [Weights(*part(weights, i)) for i in range(2)]
    return [w for w in found if w.ih is not None]


def part(weights: Sequence[Any], i: int) -> Sequence[Any]:
    """The weights of direction i, of those of both."""
    return weights[i * PARTS : (i + 1) * PARTS]


def _joined(outcomes: list[Any], shape: torch.Size) -> tuple[Tensor, ...]:
    """y and last states of a layer from those of its directions."""
    rows, states = zip(*outcomes, strict=True)
    y = torch.cat(rows, -1)
    return y.reshape(*shape, y.shape[-1]), *map(torch.stack, zip(*states, strict=True))


def _rows(tensor: Tensor) -> Tensor:
    # not reshape(-1, n): with zero elements the other size would be ambiguous
    return tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])
