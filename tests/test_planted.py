"""The checks can fail: each planted fault is found by its check, and a right rule passes them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks import (
    CHECKS,
    COMPILED_CHECKS,
    contract,
    gradients,
    memory,
    numerics,
    second_order,
    transforms,
    values,
)
from torch import Tensor, nn

from torch_backprop.rule import LOWER, Rule, save
from torch_backprop.spec import LayerSpec, case

Pair = tuple[Tensor, Tensor]


class BuiltIn(nn.Module):
    """y = x^2 t, by autograd."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * x * t

    def _get_name(self) -> str:
        return "SquareTimes"


class Right(Rule):
    """dL/dx = 2 x t g and dL/dt = x^2 g."""

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return x * x * t

    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        x, t = inputs
        ctx.save_for_backward(x, t if ctx.needs_input_grad[0] else None)
        ctx.save_for_forward(x, t)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        needs_x, needs_t = ctx.needs_input_grad
        return (2 * x * t).conj() * g if needs_x else None, (x * x).conj() * g if needs_t else None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_t: Tensor | None) -> Tensor:
        x, t = ctx.saved_tensors
        by_x = 0 if tangent_x is None else 2 * x * t * tangent_x
        return torch.as_tensor(by_x + (0 if tangent_t is None else x * x * tangent_t))


class RightLayer(BuiltIn):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return Right.call(x, t)


class FactorForgotten(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_t = Right.backward(ctx, g)
        return None if grad_x is None else grad_x / 2, grad_t


class Transposed(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_t = Right.backward(ctx, g)
        return grad_x, None if grad_t is None else grad_t.flip(0)


class GradientMissing(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g)[0], None


class CotangentIgnored(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, torch.ones_like(g))


class CotangentReadAsContiguous(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g.as_strided(g.shape, torch.empty_like(g).contiguous().stride()))


class SinglePrecision(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g.float().to(g.dtype))


class CotangentOverwritten(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gradients = Right.backward(ctx, g)
        if not torch.is_grad_enabled():
            g.zero_()
        return gradients


class NeedsIgnored(Right):
    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        return 2 * x * t * g, x * x * g


class SavedSlope(Right):
    """Keeps 2 x t, a constant to the second derivative."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        x, t = inputs
        save(ctx, x, (2 * x * t).detach())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        needs_x, needs_t = ctx.needs_input_grad
        return slope * g if needs_x else None, x * x * g if needs_t else None


class WrongTangent(Right):
    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_t: Tensor | None) -> Tensor:
        return Right.jvp(ctx, tangent_x, None)


class NotByHand(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, torch.ops.aten.threshold_backward(g, torch.ones_like(g), 0))


class SavesTooMuch(Right):
    """Keeps powers of x on the context, where no saved-tensor hook sees them."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        Right.setup_context(ctx, inputs, output)
        ctx.powers = [inputs[0] ** n for n in range(4)]


class VersionBypassed(Right):
    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        save(ctx, *(x.detach().view(x.shape).data for x in inputs))


class OutputOnContext(Right):
    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        save(ctx, *inputs)
        ctx.output = output


class RandomNumberDrawn(Right):
    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return Right.forward(x, t) + 0 * torch.rand(())


class CastUnderAutocast(Right):
    autocast = {"cpu": LOWER}


FAULTS: dict[type[Rule], Callable[..., None]] = {
    FactorForgotten: gradients.gradients,
    Transposed: gradients.gradients,
    GradientMissing: gradients.gradients,
    CotangentIgnored: gradients.gradients,
    SinglePrecision: gradients.gradients,
    CotangentReadAsContiguous: gradients.cotangents,
    CotangentOverwritten: contract.mutation,
    NeedsIgnored: gradients.needs,
    SavedSlope: second_order.double_backward,
    WrongTangent: transforms.tangents,
    NotByHand: contract.by_hand,
    SavesTooMuch: memory.memory,
    VersionBypassed: contract.overwritten,
    OutputOnContext: contract.leaks,
    RandomNumberDrawn: values.values,
    CastUnderAutocast: numerics.autocast,
}

CASE = case((3, 4), (3, 4))


def planted(rule: type[Rule]) -> LayerSpec:
    class Layer(BuiltIn):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return rule.call(x, t)

    return LayerSpec(Layer, BuiltIn, (CASE,))


@pytest.mark.parametrize("rule", FAULTS, ids=lambda rule: rule.__name__)
def test_the_fault_is_found(rule: type[Rule]) -> None:
    with pytest.raises(AssertionError, match=r"Layer\(3x4 3x4\)"):
        FAULTS[rule](planted(rule), CASE)


def test_first_order_checks_cannot_find_a_saved_slope() -> None:
    for check in (gradients.gradients, gradients.cotangents):
        check(planted(SavedSlope), CASE)


@pytest.mark.parametrize("check", CHECKS + COMPILED_CHECKS, ids=lambda check: check.__name__)
def test_a_right_rule_passes(check: Callable[..., None]) -> None:
    check(LayerSpec(RightLayer, BuiltIn, (CASE,)), CASE)
