"""trace: its numbers against autograd's, what it leaves untouched, and how it tells a wrong rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torch_backprop
from tests.architectures import ARCHITECTURES, Architecture
from torch_backprop import Trace, trace
from torch_backprop.layers import linear


class Costing(nn.Module):
    """An architecture as a model of no inputs, whose output is its cost."""

    def __init__(self, architecture: type[Architecture]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = architecture().double()

    def forward(self) -> Tensor:
        torch.manual_seed(1)
        return self.model.cost()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_agree_with_autograd(architecture: type[Architecture]) -> None:
    model = Costing(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    found = trace(model, lambda cost, _: cost, (), None)
    assert found.difference < 1e-9
    assert len(found.layers) > 4
    assert all(layer.error.ours is not None for layer in found.layers if layer.error.autograd is not None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.model.cost().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {name for name, each in found.gradients.items() if each.ours is not None} == names


class Odd(nn.Module):
    """Two branches, a layer called twice, one written over, one that nobody hears, and weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.over = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
        self.steps, self.unheard = nn.LSTM(3, 3, batch_first=True), nn.Linear(3, 3)
        self.frozen, self.drop = nn.Linear(3, 3).requires_grad_(False), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.unheard(x)
        y = self.over(self.frozen(x))
        y = self.twice(torch.tanh(self.twice(y))) + y
        states, (last, _) = self.steps(y[:, None])
        return self.drop(states[:, 0] * self.scale + last[0])


def odd() -> Trace:
    torch.manual_seed(0)
    return trace(Odd().double(), nn.MSELoss(), torch.randn(4, 3).double(), torch.randn(4, 3).double())


def test_odd_models() -> None:
    found = odd()
    assert found.difference < 1e-12
    layers = {layer.title: layer for layer in found.layers}
    assert [*layers][-6:] == ["twice#2", "steps", "steps[1]", "steps[2]", "drop", "Odd"]
    # What the cost does not depend on has no error; the next layer's writing is not in its input's note.
    assert layers["unheard"].error.ours is layers["unheard"].error.autograd is None
    assert layers["steps[2]"].error.ours is None
    assert (layers["over.0"].activation < 0).any()
    assert (layers["over.1"].activation >= 0).all()
    # A frozen layer has an error and no gradient; a layer called twice has its gradient once.
    assert layers["frozen"].error.ours is not None
    assert layers["frozen"].gradients == {}
    assert set(layers["twice"].gradients) == {"twice.weight", "twice.bias"}
    assert layers["twice#2"].gradients == {}
    assert set(layers["Odd"].gradients) == {"scale"}
    assert sorted(name for layer in found.layers for name in layer.gradients) == sorted(found.gradients)
    assert "scale" in found.table()


class Weighted(nn.Module):
    """A loss that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, output: Tensor, targets: Tensor) -> Tensor:
        return (self.weight * F.mse_loss(output, targets)).sum()


def test_losses_with_parameters_and_functions_that_models_call() -> None:
    class Calling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch_backprop.nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.gelu(self.first(x))

    found = trace(Calling(), Weighted(), torch.randn(3, 2), torch.randn(3, 2))
    assert set(found.gradients) == {"first.weight", "first.bias", "loss.weight"}
    assert found.difference < 1e-5
    assert "loss.weight" in found.table()
    assert "parameters of no layer" in found.to_html()


def test_layers_within_layers_and_parametrizations() -> None:
    model = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double()
    nn.utils.parametrizations.weight_norm(model.linear1)
    x = torch.randn(2, 3, 4).double()
    found = trace(model, nn.MSELoss(), x, torch.randn(2, 3, 4).double())
    assert found.difference < 1e-12
    layers = {layer.title: layer for layer in found.layers}
    assert {"self_attn.in_proj_weight", "self_attn.in_proj_bias"} <= set(layers["self_attn"].gradients)
    assert "linear1.parametrizations.weight.original0" in layers["linear1"].gradients
    assert not any("parametrizations" in title for title in layers)


def test_inputs_by_name_whole_numbers_and_sparse_gradients() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(5, 3, sparse=True)

        def forward(self, index: Tensor, shift: Tensor) -> Tensor:
            return self.words(index) + shift

    inputs = {"index": torch.tensor([1, 4, 1]), "shift": torch.randn(3)}
    found = trace(Named(), nn.L1Loss(), inputs, torch.zeros(3, 3))
    assert found.difference < 1e-6
    assert "dict" in found.table()
    assert found.layers[0].input is not None
    assert found.layers[0].input.tolist() == [1, 4, 1]


@pytest.mark.parametrize("made", ["of torch", "converted", "ours"])
def test_autograd_runs_torchs_own_layers(monkeypatch: pytest.MonkeyPatch, made: str) -> None:
    package: Any = torch_backprop.nn if made == "ours" else nn
    model = nn.Sequential(package.Linear(3, 2), package.Tanh())
    if made == "converted":
        torch_backprop.convert(model)
    kinds = [type(layer) for layer in model]
    backward = linear.LinearRule.backward

    def wrong(ctx: Any, grad_y: Tensor) -> Any:
        gradients: Any = backward(ctx, grad_y)
        return gradients[0], gradients[1] * 1.01, *gradients[2:]

    right = trace(model, nn.MSELoss(), torch.randn(4, 3), torch.randn(4, 2))
    monkeypatch.setattr(linear.LinearRule, "backward", staticmethod(wrong))
    found = trace(model, nn.MSELoss(), torch.randn(4, 3), torch.randn(4, 2))
    assert right.difference < 1e-5
    assert found.gradients["0.weight"].difference == pytest.approx(0.01, rel=1e-3)
    assert [type(layer) for layer in model] == kinds


def test_what_is_but_rounding_is_no_difference() -> None:
    # The cost does not depend on what a batch norm takes away.
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    found = trace(model, nn.MSELoss(), torch.randn(8, 2), torch.randn(8, 1))
    assert found.gradients["0.bias"].autograd is not None
    assert found.gradients["0.bias"].autograd.abs().max() < 1e-6
    assert found.difference < 1e-4


def test_complex_models_and_callers_without_grad() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, dtype=torch.complex64)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    model, x = Complex(), torch.randn(3, 2, dtype=torch.complex64)
    with torch.inference_mode():
        found = trace(model, lambda y, t: (y - t).abs().square().mean(), x.clone(), torch.ones(3, 2))
    assert found.difference < 1e-5
    assert "norm" in found.table()
    assert "<svg" in found.to_html()
    assert found.plot().axes


def test_bad_input_is_named() -> None:
    model, x, t = nn.Linear(2, 1), torch.ones(3, 2), torch.ones(3, 1)
    with pytest.raises(TypeError, match=r"model is .*: it must be a torch.nn.Module"):
        trace("model", nn.MSELoss(), x, t)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"loss returned .*: it must be a scalar"):
        trace(model, nn.MSELoss(reduction="none"), x, t)
    with pytest.raises(ValueError, match="the cost is nan"):
        trace(model, nn.MSELoss(), x * torch.nan, t)
    with pytest.raises(ValueError, match="nothing to learn"):
        trace(nn.Tanh(), nn.MSELoss(), x, t)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
