"""The verifier on an accelerator, whose random numbers come from a generator of its own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from tests.accelerator import DEVICE, accelerator
from torch_backprop.verify import Report, check


class Module:
    """Stands where torch.cuda does; a draw moves its generator on, and no other."""

    state = torch.zeros(1)

    @staticmethod
    def get_rng_state(device: torch.device) -> Tensor:
        assert device == DEVICE
        return Module.state.clone()


class Square(Function):
    """x^2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Module.state += 1
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * ctx.saved_tensors[0].conj() * grads[0]


class DrawnAgain(Square):
    """Draws in backward, too."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        Module.state += 1
        return Square.backward(ctx, *grads)


LOOKS = ("numbers", "random_numbers")


def checked(candidate: Any, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(torch, DEVICE.type, Module, raising=False)
    with accelerator() as send:
        x = send(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
        return check(candidate, x, reference=torch.square, quick=True, probes=LOOKS)


def test_drawing_in_backward_from_the_generator_of_the_device_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    report = checked(DrawnAgain, monkeypatch)
    assert [finding.fault for finding in report.findings] == ["redrawn-randomness"]


def test_drawing_in_forward_alone_is_none(monkeypatch: pytest.MonkeyPatch):
    report = checked(Square, monkeypatch)
    assert report.findings == ()
    assert "cannot be forked" in str(report)
