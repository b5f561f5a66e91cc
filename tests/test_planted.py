"""The checks can fail: each planted fault is found by its check, and a right rule passes them all."""

from __future__ import annotations

from collections.abc import Callable

import planted
import pytest
from checks import (
    CHECKS,
    COMPILED_CHECKS,
    compilation,
    contract,
    gradients,
    memory,
    numerics,
    second_order,
    transforms,
    values,
)
from torch import Tensor

from torch_backprop.rule import Rule
from torch_backprop.spec import LayerSpec, case

FAULTS: dict[type[Rule], Callable[..., None]] = {
    planted.FactorForgotten: gradients.gradients,
    planted.Transposed: gradients.gradients,
    planted.GradientMissing: gradients.gradients,
    planted.CotangentIgnored: gradients.gradients,
    planted.SinglePrecision: gradients.gradients,
    planted.ConjugateForgotten: gradients.complex_numbers,
    planted.CotangentReadAsContiguous: gradients.cotangents,
    planted.RightWhenSmall: gradients.large,
    planted.RightOnce: gradients.repeated,
    planted.NeedsIgnored: gradients.needs,
    planted.UndefinedAtZero: numerics.extremes,
    planted.Cancelling: numerics.low_precision,
    planted.CastUnderAutocast: numerics.autocast,
    planted.SavedSlope: second_order.double_backward,
    planted.ConstantTangent: second_order.directional,
    planted.WrongTangent: transforms.tangents,
    planted.WritesWhatIsBatched: transforms.batched,
    planted.SavesTooMuch: memory.memory,
    planted.NotByHand: contract.by_hand,
    planted.CotangentOverwritten: contract.mutation,
    planted.VersionBypassed: contract.overwritten,
    planted.OutputOnContext: contract.leaks,
    planted.UnpacksTwice: contract.checkpointing,
    planted.LooksAtNumbers: compilation.without_memory,
    planted.RandomNumberDrawn: values.values,
}

CASE = case((3, 4), (3, 4))


def spec_of(rule: type[Rule]) -> LayerSpec:
    class Layer(planted.BuiltIn):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return rule.call(x, t)

    return LayerSpec(Layer, planted.BuiltIn, (CASE,))


@pytest.mark.parametrize("rule", FAULTS, ids=lambda rule: rule.__name__)
def test_the_fault_is_found(rule: type[Rule]) -> None:
    with pytest.raises(AssertionError, match=r"Layer\(3x4 3x4\)"):
        FAULTS[rule](spec_of(rule), CASE)


@pytest.mark.parametrize("rule", [planted.SavedSlope, planted.ConstantTangent, planted.NotByHand])
def test_gradients_alone_cannot_find_it(rule: type[Rule]) -> None:
    for check in (gradients.gradients, gradients.cotangents, gradients.large):
        check(spec_of(rule), CASE)


@pytest.mark.parametrize("check", CHECKS + COMPILED_CHECKS, ids=lambda check: check.__name__)
def test_a_right_rule_passes(check: Callable[..., None]) -> None:
    check(LayerSpec(planted.RightLayer, planted.BuiltIn, (CASE,)), CASE)
