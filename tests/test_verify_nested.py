"""Forward mode over forward mode: torch makes it 0 for a plain jvp, without a word."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torch_backprop.verify import Report, check


class CubeSlope(Function):
    """3 x^2 t, with a tangent of its own."""

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return 3 * x * x * t

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        x, t = ctx.saved_tensors
        return 6 * x * t * tangents[0] + 3 * x * x * tangents[1]


class Cube(Function):
    """x^3, whose tangent is a Function."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 3 * ctx.saved_tensors[0].conj() ** 2 * grads[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return CubeSlope.apply(ctx.saved_tensors[0], tangents[0])


class Silent(Cube):
    """Its tangent is plain arithmetic."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return 3 * ctx.saved_tensors[0] ** 2 * tangents[0]


class Refusing(Silent):
    """Its tangent cannot be nested, and says so."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        if torch._C._functorch.maybe_get_level(tangents[0]) > 0:  # pyright: ignore[reportAttributeAccessIssue]
            raise NotImplementedError("no jvp of a jvp")
        return 3 * ctx.saved_tensors[0] ** 2 * tangents[0]


def cube(x: Tensor) -> Tensor:
    return x * x * x


def held(candidate: Any) -> Report:
    return check(candidate, torch.linspace(-1, 2, 6).view(2, 3), reference=cube, probes="nested_tangents")


def test_silent_zero_is_wrong():
    (finding,) = held(Silent).findings
    assert (finding.fault, finding.verdict) == ("forward-mode-wrong", "wrong")
    assert "jvp of a jvp" in finding.diagnosis
    assert finding.seen == "[0] (0-dim)"


def test_refusal_is_a_capability():
    (finding,) = held(Refusing).findings
    assert (finding.fault, finding.verdict) == ("no-forward-mode", "capability")


def test_right_ones_are_not_flagged():
    assert held(Cube).findings == held(cube).findings == ()
