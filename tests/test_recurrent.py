"""Recurrent layers on what a case cannot draw: pairs of states, and packed sequences of different lengths."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from checks import CHECKS, compilation, values
from checks.comparison import WITH_STRIDES, equal
from checks.corrected import CORRECTED, CORRECTED_SECOND_ORDER
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils import _pytree as pytree

from experiments.held import held_bytes
from torch_backprop import nn
from torch_backprop.spec import Case, LayerSpec, case

# any classes: wrapped, they take other arguments
OURS: Any = nn
BUILTIN: Any = torch.nn

SIZES, ORDER = torch.tensor([2, 2, 1]), torch.tensor([1, 0])
SEQUENCES = ([0, 2, 4], [1, 3])
"""The rows of each sequence in a batch of these sizes."""


class WithStates:
    """Takes a pair of states as two inputs."""

    def forward(self, input: Tensor, *states: Tensor) -> Any:
        return super().forward(input, states)  # type: ignore[misc]


class Packed:
    """Takes the rows of a packed batch, whose longest sequence is not its first, and returns rows."""

    def forward(self, rows: Tensor, *states: Tensor) -> Any:
        packed = PackedSequence(rows, SIZES, ORDER, ORDER)
        output, last = super().forward(packed, *states)  # type: ignore[misc]
        return output.data, last


class Apart(Packed):
    """The same, sequence by sequence, for torch.func, under which torch cannot run a packed batch."""

    def forward(self, rows: Tensor, *states: Tensor) -> Any:
        if rows.shape != (5, 2):
            return super().forward(rows, *states)
        run = super(Packed, self).forward  # type: ignore[misc]
        # the states are in the caller's order, the rows in that of the lengths
        ran = [run(rows[own], *(state[:, 1 - i] for state in states)) for i, own in enumerate(SEQUENCES)]
        y = torch.cat([y for y, _ in ran])
        return y[torch.tensor([*SEQUENCES[0], *SEQUENCES[1]]).argsort()], torch.stack(
            [h for _, h in ran[::-1]], 1
        )


class LSTM(WithStates, OURS.LSTM): ...


class ReferenceLSTM(WithStates, BUILTIN.LSTM): ...


class LSTMCell(WithStates, OURS.LSTMCell): ...


class ReferenceLSTMCell(WithStates, BUILTIN.LSTMCell): ...


class PackedGRU(Packed, OURS.GRU): ...


class ReferencePackedGRU(Packed, BUILTIN.GRU): ...


class ApartGRU(Apart, BUILTIN.GRU): ...


class PackedRNN(Packed, OURS.RNN): ...


class ReferencePackedRNN(Packed, BUILTIN.RNN): ...


class ApartRNN(Apart, BUILTIN.RNN): ...


BOTH_WAYS = {"input_size": 2, "hidden_size": 2, "bidirectional": True}
SPECS = (
    LayerSpec(LSTM, ReferenceLSTM, (case((3, 2, 2), (1, 2, 2), (1, 2, 2), input_size=2, hidden_size=2),)),
    LayerSpec(LSTMCell, ReferenceLSTMCell, (case((2, 3), (2, 2), (2, 2), input_size=3, hidden_size=2),)),
    LayerSpec(PackedGRU, ReferencePackedGRU, (case((5, 2), (2, 2, 2), bias=False, **BOTH_WAYS),)),
    LayerSpec(PackedRNN, ReferencePackedRNN, (case((5, 2), (1, 2, 2), input_size=2, hidden_size=2),)),
)


@pytest.mark.parametrize("check", [check for check in CHECKS if check is not values.state])
@pytest.mark.parametrize(("spec", "case"), [(spec, case) for spec in SPECS for case in spec.cases])
def test_wrapped_layer(spec: LayerSpec, case: Case, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for corrected in (CORRECTED, CORRECTED_SECOND_ORDER):
        # without memory there are no lengths, and torch refuses
        if check is not compilation.without_memory:
            monkeypatch.setitem(corrected, ReferencePackedGRU, ApartGRU)
            monkeypatch.setitem(corrected, ReferencePackedRNN, ApartRNN)
    check(spec, case)


def run(
    kind: Any, options: dict[str, Any], lengths: list[int] | None, with_states: bool, learning: str = ""
) -> Any:
    """Output, gradients, second gradients and random state, of a batch or of packed sequences.

    With ``learning``, of the weights alone whose names end so.
    """
    torch.manual_seed(5)
    module = kind(2, 3, dtype=torch.float64, **options)
    count, batch_first = options["num_layers"] * (1 + options["bidirectional"]), options["batch_first"]
    x = torch.randn((3, 4, 2) if batch_first else (4, 3, 2), dtype=torch.float64, requires_grad=not learning)
    widths = [options.get("proj_size", 3), 3][: 2 if issubclass(kind, torch.nn.LSTM) else 1]
    states = [torch.randn(count, 3, width, dtype=x.dtype, requires_grad=True) for width in widths]
    hx = (tuple(states) if len(states) == 2 else states[0]) if with_states else None
    for name, weight in module.named_parameters():
        weight.requires_grad_(name.endswith(learning))
    given = x
    if lengths is not None:
        given = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
    output, last = module(given, hx)
    y = output.data if isinstance(output, PackedSequence) else output
    outputs = [y, *(last if isinstance(last, tuple) else (last,))]
    leaves = [x, *(states if with_states else ()), *module.parameters()]
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    first = torch.autograd.grad([y.sin().sum() for y in outputs], leaves, create_graph=True)
    second = torch.autograd.grad([g.sum() for g in first], leaves)
    return outputs, first, second, torch.get_rng_state()


@pytest.mark.parametrize(
    ("name", "extra"), [("RNN", {}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": 2})]
)
@pytest.mark.parametrize("layers", [{"num_layers": 1}, {"num_layers": 2, "dropout": 0.4}])
@pytest.mark.parametrize("lengths", [None, [4, 2, 1], [1, 4, 4]])
def test_every_combination_of_options(name: str, extra: Any, layers: Any, lengths: Any) -> None:
    for bidirectional, bias, batch_first, with_states in product((False, True), repeat=4):
        options = {
            "bidirectional": bidirectional,
            "bias": bias,
            "batch_first": batch_first,
            **layers,
            **extra,
        }
        ours, builtin = (run(getattr(place, name), options, lengths, with_states) for place in (nn, torch.nn))
        # outputs lie in memory as the built-in's do
        equal(ours[0], builtin[0], f"{name}({options}): outputs", WITH_STRIDES)
        equal(ours[1:], builtin[1:], f"{name}({options})")


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("lengths", [None, [1, 4, 4]])
def test_one_direction_that_learns_alone(name: str, lengths: Any) -> None:
    options = {"bidirectional": True, "num_layers": 1, "batch_first": True}
    for ends in ("_l0", "_reverse"):
        ours, builtin = (
            run(getattr(place, name), options, lengths, False, learning=ends) for place in (nn, torch.nn)
        )
        equal(ours[0], builtin[0], f"{name}, {ends}: outputs", WITH_STRIDES)
        equal(ours[1:], builtin[1:], f"{name}, {ends}")


ones = partial(torch.ones, dtype=torch.float64)
HELD: tuple[tuple[str, dict[str, Any], tuple[Any, ...]], ...] = (
    ("RNN", {"bidirectional": True}, (ones(5, 2, 3), ones(2, 2, 4))),
    ("GRU", {}, (ones(5, 2, 3), ones(1, 2, 4))),
    ("LSTM", {"proj_size": 2}, (ones(5, 2, 3), (ones(1, 2, 2), ones(1, 2, 4)))),
    ("LSTMCell", {}, (ones(2, 3), (ones(2, 4), ones(2, 4)))),
    # inputs wider than the pre-activations
    ("GRU", {}, (ones(3, 2, 64), ones(1, 2, 4))),
    ("LSTM", {}, (ones(3, 2, 64), (ones(1, 2, 4), ones(1, 2, 4)))),
    ("GRUCell", {}, (ones(2, 64), ones(2, 4))),
    ("LSTMCell", {}, (ones(2, 64), (ones(2, 4), ones(2, 4)))),
    # together wider than the pre-activations
    ("LSTMCell", {}, (ones(2, 16), (ones(2, 4), ones(2, 4)))),
    ("LSTM", {}, (ones(2, 1, 16), (ones(1, 1, 4), ones(1, 1, 4)))),
    # one step
    ("LSTM", {"proj_size": 2}, (ones(1, 2, 64), (ones(1, 2, 2), ones(1, 2, 4)))),
    ("LSTM", {"bidirectional": True}, (ones(1, 1, 3), (ones(2, 1, 4), ones(2, 1, 4)))),
    ("GRU", {}, (ones(1, 1, 64), ones(1, 1, 4))),
    ("RNN", {}, (ones(1, 1, 64), ones(1, 1, 4))),
)


@pytest.mark.parametrize(("name", "options", "inputs"), HELD)
def test_no_subset_of_what_learns_holds_more_than_in_torch(name: str, options: Any, inputs: Any) -> None:
    given = pytree.tree_leaves(inputs)
    modules = [getattr(place, name)(given[0].shape[-1], 4, **options).double() for place in (nn, torch.nn)]
    for needs in product((False, True), repeat=len(given) + len(list(modules[0].parameters()))):
        held = []
        for module in modules:
            for leaf, needed in zip((*given, *module.parameters()), needs, strict=True):
                leaf.requires_grad_(needed)
            held.append(held_bytes(partial(module, *inputs), module.parameters()))
        assert held[0] <= held[1], f"{name}: {held[0]} bytes for {needs}, the built-in {held[1]}"


def test_rows_of_one_module_follow_weights_that_are_replaced() -> None:
    ours, builtin = nn.LSTM(2, 2), torch.nn.LSTM(2, 2)
    for module in (ours, builtin):
        module.weight_hh_l0 = torch.nn.Parameter(torch.ones(8, 2))
        module.load_state_dict({name: torch.full_like(x, 0.3) for name, x in module.state_dict().items()})
        module.flatten_parameters()
    x = torch.ones(3, 2, 2)
    weights = {name: torch.full_like(x, 0.1) for name, x in ours.named_parameters()}
    # the module's own weights, others in their place, and its own again
    for chosen in ({}, weights, {}):
        seen, expected = (torch.func.functional_call(module, chosen, (x,)) for module in (ours, builtin))
        equal(seen, expected, "LSTM")


WRONG = [
    ("LSTM", (torch.ones(2, 2, 2, 3),)),
    ("GRU", (torch.ones(3),)),
    ("RNN", (torch.ones(3),)),
    ("LSTM", (torch.ones(2, 2, 3), (torch.ones(2, 2), torch.ones(1, 2, 2)))),
    ("LSTM", (torch.ones(2, 3), (torch.ones(1, 1, 2), torch.ones(1, 1, 2)))),
    ("LSTM", (torch.ones(2, 2, 3), (torch.ones(1, 2, 2), torch.ones(1, 2, 5)))),
    ("GRU", (torch.ones(2, 2, 3), torch.ones(2, 2))),
    ("RNN", (torch.ones(2, 3), torch.ones(1, 1, 2))),
    ("GRU", (torch.ones(2, 2, 3), torch.ones(1, 5, 2))),
    ("RNN", (torch.ones(2, 2, 4),)),
    ("RNN", (torch.ones(0, 2, 3),)),
    ("LSTMCell", (torch.ones(2, 2, 3),)),
    ("LSTMCell", (torch.ones(2, 3), (torch.ones(2, 2), torch.ones(1, 2, 2)))),
    ("GRUCell", (torch.ones(2, 3), torch.ones(1, 2, 2))),
    ("GRUCell", (torch.ones(2, 3), torch.ones(5, 2))),
    ("RNNCell", (torch.ones(2, 5),)),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG)
def test_refusals_are_in_the_words_of_torch(name: str, arguments: Any) -> None:
    words = []
    for place in (nn, torch.nn):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            getattr(place, name)(3, 2)(*arguments)
        words.append(repr(caught.value))
    assert words[0] == words[1]


@compilation.recurrent_too
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_a_layer_large_enough_for_onednn_is_compiled_whole(name: str) -> None:
    layer, x = getattr(nn, name)(256, 256), torch.randn(2, 160, 256)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = [
        torch.autograd.grad(each(x)[0].square().sum(), tuple(layer.parameters()))
        for each in (layer, compiled)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (5, 3)])
@pytest.mark.parametrize(
    ("name", "wrong"), [("RNNCell", 0), ("GRUCell", 0), ("LSTMCell", 0), ("LSTMCell", 1), ("LSTMCell", None)]
)
def test_a_state_of_another_size_is_refused_by_a_cell(
    name: str, wrong: int | None, shape: tuple[int, int]
) -> None:
    words = []
    for source in (torch.nn, nn):
        cell = getattr(source, name)(4, 3)
        states = tuple(torch.ones(shape if wrong in (None, i) else (2, 3)) for i in range(2))
        with pytest.raises(RuntimeError) as caught:
            cell(torch.ones(2, 4, requires_grad=True), states if name == "LSTMCell" else states[0])
        words.append(str(caught.value))
    assert words[0] == words[1]
