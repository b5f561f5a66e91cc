"""What the verifier holds a candidate against where the reference is imprecise, wrong, or no function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from torch_backprop import nn
from torch_backprop.verify import Report, check
from torch_backprop.verify.rounding import RandomRounding
from torch_backprop.verify.sample import Sample


class WrongCube(torch.autograd.Function):
    """x^3 with the gradient of x^2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * ctx.saved_tensors[0] * grads[0]


class Rows(torch.autograd.Function):
    """Rows of w by index, of which none is padding."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(index, w)
        return w[index]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        index, w = ctx.saved_tensors
        return None, torch.zeros_like(w).index_add(0, index, grads[0])


class Flat(torch.autograd.Function):
    """Rounding, with the gradient that it has."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 0


class WrongSecond(torch.autograd.Function):
    """2 x, whose gradient claims 3 for its own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        return 2 * g.detach() + 3 * (g - g.detach())


def faults(report: Report) -> set[str]:
    return {finding.fault for finding in report.findings if finding.verdict != "capability"}


class WrongBelow(torch.autograd.Function):
    """|x|, whose gradient is right for positive numbers alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.abs()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


def test_backward_that_cannot_be_taken_out_is_no_truth_about_itself() -> None:
    # as torch 2.14 binds it, so that no replaced Function.apply is in the way
    kept: Any = super(_SingleLevelFunction, WrongBelow).apply  # pyright: ignore[reportAttributeAccessIssue]
    report = check(lambda x: kept(x), torch.rand(3) + 0.5, compile=False)
    assert not report.ok
    assert "could not be taken out" in str(report)


def test_wrong_reference_is_not_the_truth() -> None:
    x = torch.randn(3)
    report = check(lambda x: x**3, x, reference=WrongCube.apply, compile=False)
    assert report.ok
    assert "the reference's own gradient of input0 is off by" in str(report)


def test_wrong_second_gradient_of_the_reference_is_not_the_truth() -> None:
    x = torch.randn(3)
    report = check(lambda x: 2 * x, x, reference=WrongSecond.apply, compile=False)
    assert report.ok
    assert "the reference's own second gradient of grad_output 0 is wrong" in str(report)
    assert "double-backward-wrong" in faults(check(WrongSecond, x, reference=lambda x: 2 * x, compile=False))


def test_candidate_as_wrong_as_its_reference_is_found() -> None:
    assert faults(check(WrongCube, torch.randn(3), reference=lambda x: x**3, compile=False))


def test_rounding_of_what_saturates_is_no_fault() -> None:
    # 1 - y^2 of another order of summation: at x about 40 few of its digits are left
    x, w = torch.randn(2, 3), torch.randn(4, 3) * 10
    report = check(lambda x, w: torch.tanh(x.flip(-1) @ w.flip(-1).mT), x, w, reference=_squashed)
    assert report.ok


def _squashed(x: Tensor, w: Tensor) -> Tensor:
    return torch.tanh(x @ w.mT)


def test_index_that_torch_does_not_check_is_no_sample() -> None:
    log_probs = torch.randn(5, 2, 4).log_softmax(-1)
    targets, lengths = torch.tensor([[1, 2], [3, 1]]), (torch.tensor([5, 5]), torch.tensor([2, 2]))
    # torch reads memory beyond its arguments for a target of -100, and ours refuses it
    samples = "input1 all -100", "input1 partly -100"
    given = log_probs, targets, *lengths
    assert check(nn.CTCLoss(), *given, reference=F.ctc_loss, compile=False, samples=samples).ok


def test_random_rounding_moves_what_cancels() -> None:
    x = torch.full((8,), 1 / 3, dtype=torch.float64)
    exact = (x + 1e6) - 1e6
    with RandomRounding(0):
        moved = (x + 1e6) - 1e6
        same = x.view(2, 4).t()
    assert 1e-11 < (moved - exact).abs().max() < 1e-9
    assert torch.equal(same, x.view(2, 4).t())


def test_autocast_is_that_of_the_device_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, autocast = set[str](), torch.autocast
    x = torch.randn(3)

    def noted(kind: str, dtype: torch.dtype) -> Any:
        asked.add(kind)
        return autocast("cpu", dtype)

    monkeypatch.setattr(torch, "autocast", noted)
    monkeypatch.setattr(Sample, "device", torch.device("cuda"))
    assert check(torch.tanh, x, reference=torch.tanh, probes=("autocast",), isolate=False).ok
    assert asked == {"cuda"}


def test_a_reference_that_leaves_a_row_of_padding_alone_is_right():
    index, w = torch.tensor([1, 0, 2, 1]), torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    report = check(
        Rows, index, w, reference=lambda index, w: F.embedding(index, w, 1), quick=True, isolate=False
    )
    assert "which should be zero: a mask or a padding is forgotten" in report.findings[0].diagnosis


def test_a_reference_that_lets_gradients_straight_through_is_right():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    report = check(Flat, x, reference=lambda x: x + (x.round() - x).detach(), quick=True, isolate=False)
    assert report.findings[0].fault == "missing-gradient"
