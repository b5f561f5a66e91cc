"""What a subclass of a layer becomes when it is converted: that subclass, over the twin; or nothing."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_backprop


class Square(nn.Conv2d):
    """With a constructor and a method of its own, as people write it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def area(self) -> int:
        return self.kernel_size[0] ** 2

    def extra_repr(self) -> str:
        return str(self.in_channels)


def test_a_subclass_without_a_forward_of_its_own_stays_that_subclass(tmp_path: Path) -> None:
    def gradient(layer: nn.Module) -> Tensor:
        return torch.autograd.grad(layer(x).square().sum(), x)[0]

    builtin = Square(2)
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    ours = copy.deepcopy(builtin)
    assert torch_backprop.convert(ours).converted == {"": "Square"}
    assert torch_backprop.convert(ours) == torch_backprop.Conversion({}, {})
    torch.save(ours, tmp_path / "layer.pt")
    for layer in (ours, copy.deepcopy(ours), torch.load(tmp_path / "layer.pt", weights_only=False)):
        assert isinstance(layer, Square)
        assert isinstance(layer, torch_backprop.nn.Conv2d)
        assert (layer.area(), repr(layer)) == (9, "Square(2)")
        torch.testing.assert_close(gradient(layer), gradient(builtin))
        assert "ConvolutionRule" in type(layer(x).grad_fn).__name__
        torch_backprop.revert(layer)
        assert type(layer) is Square


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Standardized(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight - weight.mean(), bias)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Scaled(2, 2), "Scaled: a subclass of Linear with its own forward, which"),
        (Standardized(2, 2, 1), "Standardized: a subclass of Conv2d with its own _conv_forward, which"),
    ],
)
def test_a_subclass_that_may_compute_something_else_is_left_alone(layer: nn.Module, words: str) -> None:
    assert torch_backprop.convert(layer).left_alone == {"": f"{words} may compute something else"}


def test_a_layer_whose_forward_has_been_replaced_is_left_alone() -> None:
    layer: Any = nn.Linear(2, 2)
    layer.forward = lambda input: 2 * input
    why = "Linear: a Linear whose forward has been replaced; what it calls can be patched()"
    assert torch_backprop.convert(nn.Sequential(layer)).left_alone == {"0": why}
    assert type(layer) is nn.Linear


def test_a_subclass_of_ours_is_ours_already() -> None:
    class Own(torch_backprop.nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    assert torch_backprop.convert(nn.Sequential(Own(2, 2))) == torch_backprop.Conversion({}, {})


def test_a_model_that_has_been_traced_converts() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.GELU())
    traced = torch.fx.symbolic_trace(copy.deepcopy(model))
    assert torch_backprop.convert(traced).converted == {"0": "Linear", "1": "GELU"}
    x = torch.randn(2, 3, requires_grad=True)
    ours, builtin = (torch.autograd.grad(each(x).square().sum(), x) for each in (traced, model))
    torch.testing.assert_close(ours, builtin)
