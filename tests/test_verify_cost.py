"""What a check costs: counted in calls, which no other process on the machine can change."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from tests.zoo.plant import HandWritten
from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, LayerSpec
from torch_backprop.verify import Report, check
from torch_backprop.verify.probes.needs import _subsets
from torch_backprop.verify.target import Target

CALLS = {
    "Transformer": 36,
    "TransformerDecoderLayer": 56,
    "MultiheadAttention": 90,
    "LSTM": 90,
    "CTCLoss": 115,
}
"""Layers whose quick checks are dearest, and the calls of layer and built-in that are enough: 0.3 s."""


class ByNumPy(HandWritten):
    """Nothing that autograd sees through."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g * (1 - ctx.saved_tensors[0].tanh() ** 2)


def dearest(name: str) -> tuple[LayerSpec, Case]:
    (spec,) = [spec for spec in SPECS if spec.layer.__name__ == name][:1]
    return spec, max(spec.cases, key=lambda case: len(case.inputs))


def elements(case: Case) -> int:
    return sum(x.numel() for x in case.draw(torch.float64))


def quick(spec: LayerSpec, case: Case, **options: Any) -> Report:
    layers = (spec.layer, spec.reference)
    ours, builtin = (case.called(case.build(layer, torch.float64)) for layer in layers)
    return check(ours, *case.draw(torch.float64), reference=builtin, quick=True, isolate=False, **options)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of candidate and reference, one for each call of them."""
    called, outputs = [], Target.outputs

    def counted(self: Target, *args: Any) -> tuple[torch.Tensor, ...]:
        called.append(self.name)
        return outputs(self, *args)

    monkeypatch.setattr(Target, "outputs", counted)
    return called


@pytest.mark.parametrize("name", CALLS)
def test_quick_check_makes_few_calls(name: str, calls: list[str]):
    quick(*dearest(name))
    assert 20 < len(calls) <= CALLS[name]


def test_quick_check_says_what_it_left_out():
    (left,) = [note for note in quick(*dearest("Transformer")).notes if "left out were" in note]
    assert re.search("the samples .*some zeros input0.*; the probes dtypes, interleaved$", left)
    assert "left out were" not in str(quick(*dearest("GRU")))


def test_a_default_check_leaves_out_samples_alone():
    spec, case = dearest("Transformer")
    ours, builtin = (case.called(case.build(layer, torch.float64)) for layer in (spec.layer, spec.reference))
    report = check(ours, *case.draw(torch.float64), reference=builtin, compile=False, isolate=False)
    (left,) = [note for note in report.notes if "left out were" in note]
    assert report.ok
    assert "the samples" in left
    assert "the probes" not in left


def test_differences_are_taken_once_a_sample(calls: list[str]):
    spec, _ = dearest("CrossMapLRN2d")
    case = max(spec.cases, key=elements)
    quick(spec, case, samples=("as given",))
    # some thirteen calls an element, and those of the probes
    assert len(calls) < 13 * elements(case) + 200


def test_differences_of_a_large_input_leave_no_sample_out(calls: list[str]):
    x = torch.randn(16, 16)
    report = check(ByNumPy, x, compile=False, isolate=False)
    assert report.ok
    assert "left out were" not in str(report)
    assert "on other samples than the given one, differences were taken by 8 elements" in str(report)
    # two seconds' worth; eleven for each element of each sample would be a hundred thousand
    assert len(calls) < 12_000


@pytest.mark.parametrize("count", [2, 3, 4, 5, 11, 36])
def test_of_every_two_leaves_each_is_frozen_without_the_other(count: int):
    leaves = tuple(f"w{i}" for i in range(count))
    subsets = _subsets(leaves)
    assert len(subsets) <= 14
    assert all(set(subset) < set(leaves) for subset in subsets)
    pairs = {(a, b) for subset in subsets for a in subset for b in set(leaves) - set(subset)}
    assert len(pairs) == count * (count - 1)


@pytest.mark.parametrize("count", [6, 7])
def test_it_is_said_where_not_every_subset_was_frozen(count: int):
    inputs = torch.randn(count, 3).unbind()
    report = check(
        lambda *x: sum(x), *inputs, reference=lambda *x: sum(x), probes=("subsets",), isolate=False
    )
    assert report.ok
    assert ("not every subset" in str(report)) == (count > 6)


class ThreeOfSix(HandWritten):
    """A sum whose backward fails where exactly the first, second and fourth need a gradient."""

    @staticmethod
    def forward(ctx: Any, *x: torch.Tensor) -> torch.Tensor:
        return torch.stack(x).sum(0)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        if ctx.needs_input_grad == (True, True, False, True, False, False):
            raise RuntimeError("never tried")
        return tuple(g.clone() if needed else None for needed in ctx.needs_input_grad)


def test_of_six_leaves_every_subset_is_frozen():
    report = check(ThreeOfSix, *torch.randn(6, 3).unbind(), probes=("subsets", "more_subsets"), isolate=False)
    assert [finding.fault for finding in report.findings] == ["frozen-input"]
