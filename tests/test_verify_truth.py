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
