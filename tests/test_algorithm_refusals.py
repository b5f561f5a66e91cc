"""What backpropagation without autograd refuses: aloud, with where it was and what to do instead."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_algorithm import CLASSES, INPUTS, perceptron
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torch_backprop
from torch_backprop import Backpropagation, functional
from torch_backprop.rule import RECORDERS


def _reentrant(x: Tensor) -> Tensor:
    return checkpoint(functional.tanh, x, use_reentrant=True)


class Detaching(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...


class Own(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "an operator": (lambda x: torch.special.i0(x), r"aten\.i0.* called at .*test_algorithm_refusals.py:\d+"),
    "a function with a twin": (lambda x: F.gelu(x), r"torch_backprop.functional.gelu"),
    "a layer with a twin": (lambda x: nn.GELU()(x), r"it is what GELU computes: torch_backprop.convert"),
    "through numpy": (Detaching.apply, r"Detaching.apply, called at .*test_algorithm_refusals.py:\d+"),
    "a checkpoint": (_reentrant, r"CheckpointFunction.apply, called at .*test_algorithm_refusals.py:\d+"),
    "a transform": (
        lambda x: torch.vmap(functional.gelu)(x),
        r"aten\.gelu.* called at .*test_algorithm_refusals.py:\d+",
    ),
    "somebody's Function": (
        Own.apply,
        r"Own.apply, called at .*_refusals.py:\d+.*torch_backprop.Rule",
    ),
}


@pytest.mark.filterwarnings("ignore:None of the inputs")
@pytest.mark.parametrize(("compute", "words"), REFUSED.values(), ids=REFUSED)
def test_operations_without_a_pullback(compute: Callable[[Tensor], Tensor], words: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3).double())

        def forward(self, x: Tensor) -> Tensor:
            return compute(x @ self.weight)

    with pytest.raises(NotImplementedError, match=words):
        Backpropagation(Model(), functional.cross_entropy)(INPUTS, CLASSES)
    assert not RECORDERS


def test_targets_of_another_length() -> None:
    with pytest.raises(ValueError, match="targets has 4 rows and the output has 6"):
        Backpropagation(perceptron(), functional.cross_entropy)(INPUTS, CLASSES[:4])


def test_integers_for_real_numbers() -> None:
    with pytest.raises(TypeError, match=r"inputs is a tensor of torch\.int64.*inputs\.float"):
        Backpropagation(perceptron(), functional.cross_entropy)(INPUTS.long(), CLASSES)


@pytest.mark.parametrize(("loss", "words"), [
    (lambda y, t: y, r"shape \(6, 3\)"), (lambda y, t: 3.0, r"3\.0"), (lambda y, t: y.argmax(), "int64"),
])  # fmt: skip
def test_a_loss_that_is_no_scalar(loss: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"loss returned .*{words}.*reduction='mean'"):
        Backpropagation(perceptron(), loss)(INPUTS, CLASSES)


def test_a_cost_that_is_not_finite_names_the_example() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    rows = INPUTS.index_fill(0, torch.tensor([3]), torch.nan)
    with pytest.raises(ValueError, match=r"the cost is nan; example 3 .* inputs"):
        Backpropagation(model, functional.cross_entropy, optimizer)(rows, CLASSES)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    nn.init.constant_(model[2].get_parameter("weight"), torch.inf)
    with pytest.raises(ValueError, match=r"example 0 .* the output"):
        Backpropagation(model, functional.cross_entropy)(INPUTS, CLASSES)


def test_a_model_with_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match=r"nothing to learn.*requires_grad_"):
        Backpropagation(perceptron().requires_grad_(False), functional.cross_entropy)(INPUTS, CLASSES)
    with pytest.raises(ValueError, match="no shape yet"):
        Backpropagation(nn.Sequential(torch_backprop.nn.LazyLinear(3)), F.cross_entropy)(INPUTS, CLASSES)


def test_a_hidden_tensor_that_requires_a_gradient() -> None:
    hidden = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="register it as a parameter"):
        Backpropagation(perceptron(), lambda y, t: (y * hidden).sum())(INPUTS, CLASSES)


def test_arguments_of_other_types() -> None:
    given: Any = ((1, len), "model"), ((nn.ReLU(), 1), "loss"), ((nn.ReLU(), len, 3), "update")
    for arguments, name in given:
        with pytest.raises(TypeError, match=f"{name} is"):
            Backpropagation(*arguments)


@pytest.mark.parametrize(("install", "words"), [
    (lambda model, hook: model[1].register_full_backward_hook(hook), r"1 \(Tanh\)"),
    (lambda model, hook: model[1].register_full_backward_pre_hook(hook), r"1 \(Tanh\)"),
    (lambda model, hook: model[2].bias.register_post_accumulate_grad_hook(hook), r"parameter 2\.bias"),
])  # fmt: skip
def test_hooks_that_only_autograd_would_call(install: Any, words: str) -> None:
    model = perceptron()
    handle = install(model, lambda *_: None)
    with pytest.raises(NotImplementedError, match=f"{words} has a hook .*would not be called: remove it"):
        Backpropagation(model, functional.cross_entropy)(INPUTS, CLASSES)
    handle.remove()
    Backpropagation(model, functional.cross_entropy)(INPUTS, CLASSES)


def test_what_was_written_into_is_not_used() -> None:
    model = perceptron(nn.Tanh())

    def loss(output: Tensor, targets: Tensor) -> Tensor:
        exponentials = output.exp()
        total = exponentials * exponentials
        exponentials.zero_()
        return total.sum()

    with pytest.raises(RuntimeError, match=r"aten.exp.default kept .* written into since|written into since"):
        Backpropagation(model, loss)(INPUTS, CLASSES)


def test_a_parameter_is_not_written_into() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3).double())

        def forward(self, x: Tensor) -> Tensor:
            self.weight[0].mul_(2)
            return x @ self.weight

    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        Backpropagation(Model(), functional.cross_entropy)(INPUTS, CLASSES)


def test_what_one_pass_leaves_to_the_next() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch_backprop.nn.Linear(4, 3).double()
            self.last: Any = 0

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.linear(x) + self.last
            return self.last

    algorithm = Backpropagation(Model(), functional.cross_entropy)
    algorithm(INPUTS, CLASSES)
    with pytest.raises(RuntimeError, match=r"earlier pass.*detach"):
        algorithm(INPUTS, CLASSES)


def test_within_itself() -> None:
    algorithm = Backpropagation(perceptron(), functional.cross_entropy)
    with pytest.raises(RuntimeError, match="within itself"):
        Backpropagation(perceptron(), lambda y, t: algorithm(INPUTS, t)[0])(INPUTS, CLASSES)
