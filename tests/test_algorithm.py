"""Backpropagation without autograd: exact and frugal."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import ARCHITECTURES, Architecture
from torch import Tensor, nn

import torch_backprop
from torch_backprop import Backpropagation, functional
from torch_backprop.algorithm import watch
from torch_backprop.rule import RECORDERS, Rule

INPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1, 0, 2])


def perceptron(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), *(layers or (nn.Tanh(),)), nn.Linear(5, 3)).double()
    torch_backprop.convert(model)
    return model


def by_autograd(model: nn.Module, loss: Any, inputs: Any, targets: Any) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    model.zero_grad()
    loss(model(inputs), targets).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_exact(model: nn.Module, loss: Any = functional.cross_entropy, inputs: Any = INPUTS) -> None:
    expected = by_autograd(model, loss, inputs, CLASSES)
    _, gradients = Backpropagation(model, loss)(inputs, CLASSES)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-12)


class Batch(nn.Module):
    """An architecture as a model whose output is its cost."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture

    def forward(self) -> Tensor:
        torch.manual_seed(1)
        return self.architecture.cost()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(architecture: type[Architecture]) -> None:
    torch.manual_seed(0)
    model = Batch(architecture().double())
    builtin = copy.deepcopy(model)
    torch_backprop.convert(model)
    builtin().backward()
    with torch_backprop.patched():
        _, gradients = Backpropagation(model, lambda output, _: output)((), None)
    expected = {name: p.grad for name, p in builtin.named_parameters() if p.grad is not None}
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(dict(model.named_buffers()), dict(builtin.named_buffers()))


class Branching(nn.Module):
    """Branches that part and meet, a weight used twice, a buffer, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = torch_backprop.nn.Linear(4, 5), torch_backprop.nn.Linear(4, 5)
        self.last = torch_backprop.nn.Linear(5, 4, bias=False)
        self.last.weight = nn.Parameter(self.first.weight.detach().T.clone())
        self.tied = torch_backprop.nn.Linear(5, 4, bias=False)
        self.tied.weight = self.last.weight
        self.unused = nn.Parameter(torch.ones(3))
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(5))

    def forward(self, x: Tensor) -> dict[str, Any]:
        hidden = self.first(x) * torch.sigmoid(self.gate(x)) + self.seen
        with torch.no_grad():
            self.seen += hidden.mean(0)
        y = x + self.tied(torch.relu(self.last(hidden) @ self.first.weight.T))
        return {"outputs": (y[:, :3], hidden.detach().mean() * y.std())}


def two_costs(output: dict[str, Any], targets: Tensor) -> Tensor:
    logits, spread = output["outputs"]
    return functional.cross_entropy(logits, targets) + spread


def test_branches_shared_weights_and_several_outputs() -> None:
    torch.manual_seed(0)
    assert_exact(Branching().double(), two_costs)


def test_parametrizations_and_renormalized_embeddings() -> None:
    for parametrize in (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm):
        model = perceptron()
        parametrize(model[2])
        assert_exact(model)
    words = torch_backprop.nn.Embedding(5, 4, max_norm=0.5).double()
    assert_exact(words, lambda output, targets: (output[targets] ** 2).sum(), CLASSES)


def test_below_a_transform_the_operators_are_recorded() -> None:
    model = perceptron()
    assert_exact(model, lambda output, targets: torch.vmap(functional.tanh)(output).pow(2).sum())


def test_inputs_by_position_and_by_name() -> None:
    model = torch_backprop.nn.Bilinear(4, 4, 3).double()
    _, expected = Backpropagation(model, functional.cross_entropy)((INPUTS, INPUTS), CLASSES)
    named = {"input1": INPUTS, "input2": INPUTS}
    _, gradients = Backpropagation(model, functional.cross_entropy)(named, CLASSES)
    torch.testing.assert_close(gradients, expected)


def test_a_loss_that_learns() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, output: Tensor, targets: Tensor) -> Tensor:
            return functional.cross_entropy(output * self.scale, targets)

    model, loss = perceptron(), Scaled()
    _, gradients = Backpropagation(model, loss)(INPUTS, CLASSES)
    loss(model(INPUTS), CLASSES).backward()
    assert loss.scale.grad is not None
    torch.testing.assert_close(gradients["loss.scale"], loss.scale.grad)


def test_hooks_of_a_parameters_gradient_are_called() -> None:
    model, seen = perceptron(), []
    model[0].get_parameter("weight").register_hook(lambda g: 2 * g)
    model[0].get_parameter("weight").register_hook(lambda g: g.clamp(max=0.1))
    model[2].get_parameter("bias").register_hook(seen.append)
    _, gradients = Backpropagation(model, functional.cross_entropy)(INPUTS, CLASSES)
    assert len(seen) == 1
    functional.cross_entropy(model(INPUTS), CLASSES).backward()
    torch.testing.assert_close(gradients, {name: p.grad for name, p in model.named_parameters()})


def test_autocast() -> None:
    model = perceptron().float()

    def loss(output: Tensor, targets: Tensor) -> Tensor:
        assert output.dtype == torch.bfloat16
        return functional.cross_entropy(output, targets)

    with torch.autocast("cpu", torch.bfloat16):
        expected = by_autograd(model, loss, INPUTS.float(), CLASSES)
        _, gradients = Backpropagation(model, loss)(INPUTS.float(), CLASSES)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_is_left_to_autograd(mode: Callable[[], Any]) -> None:
    model = perceptron(nn.BatchNorm1d(5), nn.ReLU(inplace=True))
    seen = []
    for layer in model:
        layer.register_forward_hook(lambda _, args, output: seen.extend((*args, output)))
    with mode():
        cost, gradients = Backpropagation(model, functional.cross_entropy)(INPUTS, CLASSES)
    assert len(seen) == 8
    assert not any(x.requires_grad for x in (*seen, cost, *gradients.values()))
    assert all(p.requires_grad and p.grad is None and not vars(p) for p in model.parameters())
    assert not RECORDERS


def test_inputs_of_inference_mode_are_taken() -> None:
    model = perceptron(nn.Tanh())
    with torch.inference_mode():
        inputs = INPUTS.clone()
    _, gradients = Backpropagation(model, functional.cross_entropy)(inputs, CLASSES)
    torch.testing.assert_close(gradients, by_autograd(model, functional.cross_entropy, INPUTS, CLASSES))


class Noted(Rule):
    """The identity, which notes what its backward pass does."""

    notes: list[Any] = []

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        Noted.notes.append(weakref.ref(output.untyped_storage()))

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        assert not torch.is_grad_enabled()
        Noted.notes.append(sum(note() is not None for note in Noted.notes if isinstance(note, weakref.ref)))
        return grad_y + 0 * y


class Keeps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Noted.call(x)


def test_residuals_are_freed_as_the_backward_pass_consumes_them() -> None:
    Noted.notes.clear()
    gc.disable()
    try:
        model = nn.Sequential(perceptron()[0], *(Keeps() for _ in range(5)))
        Backpropagation(model, lambda output, _: output.sum())(INPUTS, None)
    finally:
        gc.enable()
    # a tensor is freed when the next layer's pass is done; no garbage collection was needed
    assert [note for note in Noted.notes if isinstance(note, int)] == [5, 4, 3, 2, 1]


class Fails(nn.Linear):
    """A layer whose output is kept for the backward pass, before an operation without a pullback."""

    def forward(self, input: Tensor) -> Tensor:
        output = functional.tanh(functional.linear(input, self.weight, self.bias))
        self.seen = weakref.ref(output.untyped_storage())
        return torch.special.bessel_j0(output)


def test_a_pass_that_fails_keeps_nothing() -> None:
    model = Fails(4, 3).double()
    gc.disable()
    try:
        with pytest.raises(NotImplementedError):
            Backpropagation(model, functional.cross_entropy)(INPUTS, CLASSES)
        assert model.seen() is None
    finally:
        gc.enable()


class Needy(Rule):
    """A sum, which notes what its backward pass is asked for."""

    asked: list[tuple[bool, ...]] = []

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        Needy.asked.append(ctx.needs_input_grad)
        return tuple(grad if need else None for need in ctx.needs_input_grad)


def test_what_needs_no_gradient_is_not_computed() -> None:
    Needy.asked.clear()
    frozen, learning = perceptron().requires_grad_(False), perceptron()

    def loss(output: Tensor, targets: Tensor) -> Tensor:
        constant = Needy.call(frozen(INPUTS), INPUTS[:, :3])
        beside = Needy.call(output, constant)
        return functional.cross_entropy(Needy.call(constant, output), targets) + 0 * beside.detach().sum()

    _, gradients = Backpropagation(learning, loss)(INPUTS, CLASSES)
    assert Needy.asked == [(False, True)]
    learning[0].weight.requires_grad_(False)
    assert set(Backpropagation(learning, loss)(INPUTS, CLASSES)[1]) == set(gradients) - {"0.weight"}


def test_the_cotangents_of_what_is_watched() -> None:
    model = perceptron(nn.ReLU(inplace=True))
    model[0].requires_grad_(False)
    for name, layer in model.named_children():
        layer.register_forward_hook(partial(_watched, name))
    algorithm = Backpropagation(model, functional.cross_entropy)
    algorithm(INPUTS, CLASSES)
    hidden = model[0](INPUTS).detach().requires_grad_()
    active = torch.relu(hidden)
    logits = model[2](active)
    expected = torch.autograd.grad(F.cross_entropy(logits, CLASSES), (hidden, active, logits))
    torch.testing.assert_close(algorithm.watched, dict(zip("012", expected, strict=True)))


def _watched(name: str, _: nn.Module, __: Any, output: Tensor) -> None:
    watch(name, output)
