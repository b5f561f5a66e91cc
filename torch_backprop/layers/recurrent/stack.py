"""The layers of a recurrent module one after the other, and the shapes in which sequences come.

It serves the derivation in ``direction``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from torch_backprop.layers.dropout import dropout
from torch_backprop.layers.recurrent.direction import Weights
from torch_backprop.layers.recurrent.kept import applied
from torch_backprop.layers.recurrent.walk import States
from torch_backprop.rule import private

Sequence = Any
"""``(T, B, *)``, ``(B, T, *)``, ``(T, *)``, or a ``PackedSequence``."""


def run(module: Any, rule: Any, input: Sequence, hx: States | None) -> tuple[Sequence, States]:
    """The output and the last states of a ``torch.nn.RNN``, ``LSTM`` or ``GRU`` with the layers ``rule``.

    Raises:
        ValueError: a number of dimensions or a dtype that does not fit, in torch's words.
        RuntimeError: sizes that do not fit, in torch's words.
    """
    if not torch.compiler.is_compiling():
        # the list is torch's to keep up to date, and an exported program may not change it
        module._update_flat_weights()
    if isinstance(input, PackedSequence):
        return _run_packed(module, rule, input, hx)
    x, initial = _batch(module, input, hx)
    _check(module, x, initial, None)
    if module.batch_first:
        # what torch's products keep of a transposed tensor is a copy
        x = private(x, *module.parameters()).transpose(0, 1)
    y, last = _layers(module, rule, x, None, initial)
    y = y.transpose(0, 1) if module.batch_first else y
    if input.dim() == 3:
        return y, last
    return y.squeeze(_batch_dim(module)), tuple(state.squeeze(1) for state in last)


def _run_packed(module: Any, rule: Any, packed: PackedSequence, hx: States | None) -> tuple[Sequence, States]:
    x, sizes, order, back = packed
    initial = _zeros(module, x, int(sizes[0])) if hx is None else _permuted(hx, order)
    if module.mode != "LSTM":
        # torch leaves it to its operator to refuse what an LSTM cannot take
        _check(module, x, initial, sizes)
    y, last = _layers(module, rule, x, sizes, initial)
    return PackedSequence(y, sizes, order, back), _permuted(last, back)


def _layers(
    module: Any, rule: Any, x: Tensor, sizes: Tensor | None, initial: States
) -> tuple[Tensor, States]:
    directions = 2 if module.bidirectional else 1
    weights = _weights(module)
    count = 2 * len(Weights._fields)
    # each layer has the states of its own directions, one below the other
    starts = [state.split(directions) for state in initial]
    ends = []
    for i in range(module.num_layers):
        if i and module.dropout:
            # between layers, and not after the last
            x = dropout(x, module.dropout, module.training)
        states = [start[i] for start in starts]
        h0, c0 = states if len(states) == 2 else (states[0], None)
        own = weights[i * count : (i + 1) * count]
        x, *last = applied(rule, x, sizes, h0, c0, own)
        # what is kept of y may follow
        ends.append(last[: len(states)])
    # the rule saves its y, which the built-in does not
    x = private(x)
    if module.num_layers == 1:
        return x, tuple(ends[0])
    return x, tuple(torch.cat(states) for states in zip(*ends, strict=True))


def _weights(module: Any) -> list[Tensor | None]:
    """The weights of two directions a layer, in the order of :class:`Weights`; None where there is none."""
    names = module._flat_weights_names
    compiling = torch.compiler.is_compiling()
    # not asked for once more than torch does: a parametrization may count, as that of spectral_norm
    given = iter([getattr(module, name) for name in names] if compiling else module._flat_weights)
    parts = (True, True, module.bias, module.bias, module.proj_size > 0)
    layer = (*parts, *(part and module.bidirectional for part in parts))
    return [next(given) if present else None for _ in range(module.num_layers) for present in layer]


def _batch(module: Any, input: Tensor, hx: States | None) -> tuple[Tensor, States]:
    """The input as a batch, and initial states to it."""
    kind = torch.nn.RNN.__name__ if module.mode.startswith("RNN") else module.mode
    dims = input.dim()
    if dims not in (2, 3):
        tail = "D tensor instead" if kind == "RNN" else "D instead"
        raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {dims}{tail}")
    x = input if dims == 3 else input.unsqueeze(_batch_dim(module))
    if hx is None:
        return x, _zeros(module, x, x.shape[0 if module.batch_first else 1])
    if any(state.dim() != dims for state in hx):
        batch = "batched 3-D" if dims == 3 else "unbatched 2-D"
        if len(hx) == 1:
            raise RuntimeError(
                f"For {batch} input, hx should also be {dims}-D but got {hx[0].dim()}-D tensor"
            )
        got = ", ".join(f"{state.dim()}-D" for state in hx)
        raise RuntimeError(f"For {batch} input, hx and cx should also be {dims}-D but got ({got}) tensors")
    return x, hx if dims == 3 else tuple(state.unsqueeze(1) for state in hx)


def _check(module: Any, x: Tensor, initial: States, sizes: Tensor | None) -> None:
    module.check_forward_args(x, initial if module.mode == "LSTM" else initial[0], sizes)


def _zeros(module: Any, x: Tensor, batch: int) -> States:
    count = module.num_layers * (2 if module.bidirectional else 1)
    widths = [module.proj_size or module.hidden_size, module.hidden_size][: 2 if module.mode == "LSTM" else 1]
    return tuple(torch.zeros(count, batch, width, dtype=x.dtype, device=x.device) for width in widths)


def _permuted(states: States, order: Tensor | None) -> States:
    return states if order is None else tuple(state.index_select(1, order) for state in states)


def _batch_dim(module: Any) -> int:
    return 0 if module.batch_first else 1
