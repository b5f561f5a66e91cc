"""What a check costs: counted in calls, which no other process on the machine can change."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, LayerSpec
from torch_backprop.verify import check
from torch_backprop.verify.probes.needs import _subsets
from torch_backprop.verify.target import Target

CALLS = {
    "Transformer": 70,
    "TransformerDecoderLayer": 70,
    "MultiheadAttention": 90,
    "LSTM": 90,
    "CTCLoss": 115,
}
"""Layers whose quick checks are dearest, and the calls of layer and built-in that are enough."""
SECONDS = 1.5
"""Five times what a quick check may take where nothing else runs."""


def dearest(name: str) -> tuple[LayerSpec, Case]:
    (spec,) = [spec for spec in SPECS if spec.layer.__name__ == name][:1]
    return spec, max(spec.cases, key=lambda case: len(case.inputs))


def quick(spec: LayerSpec, case: Case) -> None:
    layers = (spec.layer, spec.reference)
    ours, builtin = (case.called(case.build(layer, torch.float64)) for layer in layers)
    check(ours, *case.draw(torch.float64), reference=builtin, quick=True, isolate=False)


@pytest.mark.parametrize("name", CALLS)
def test_quick_check_makes_few_calls(name: str, monkeypatch: pytest.MonkeyPatch):
    calls, outputs = [], Target.outputs

    def counted(self: Target, *args: Any) -> tuple[torch.Tensor, ...]:
        calls.append(self.name)
        return outputs(self, *args)

    monkeypatch.setattr(Target, "outputs", counted)
    quick(*dearest(name))
    assert 30 < len(calls) <= CALLS[name]


def test_differences_are_taken_once_a_sample(monkeypatch: pytest.MonkeyPatch):
    spec, case = dearest("CrossMapLRN2d")
    calls, outputs = [], Target.outputs
    monkeypatch.setattr(Target, "outputs", lambda self, *args: calls.append(1) or outputs(self, *args))
    quick(spec, case)
    elements = sum(x.numel() for x in case.draw(torch.float64))
    # on the sample as given and on another, some thirteen calls an element
    assert len(calls) < 32 * elements


def test_quick_check_of_the_dearest_layer_takes_little_time():
    quick(*dearest("Transformer"))
    start = time.process_time()
    quick(*dearest("Transformer"))
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("count", [2, 3, 4, 5, 11, 36])
def test_of_every_two_leaves_each_is_frozen_without_the_other(count: int):
    leaves = tuple(f"w{i}" for i in range(count))
    subsets = _subsets(leaves)
    assert len(subsets) <= 14
    assert all(set(subset) < set(leaves) for subset in subsets)
    pairs = {(a, b) for subset in subsets for a in subset for b in set(leaves) - set(subset)}
    assert len(pairs) == count * (count - 1)


@pytest.mark.parametrize("count", [4, 5])
def test_it_is_said_where_not_every_subset_was_frozen(count: int):
    inputs = torch.randn(count, 3).unbind()
    report = check(
        lambda *x: sum(x), *inputs, reference=lambda *x: sum(x), probes=("subsets",), isolate=False
    )
    assert report.ok
    assert ("not every subset" in str(report)) == (count > 4)
