"""Update while going back: the ordinary update, with no more than one layer's gradients held."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_algorithm import CLASSES, INPUTS, Branching, perceptron, two_costs
from torch import Tensor, nn

from torch_backprop import Backpropagation, functional
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD

Optimizers = Callable[[Any], torch.optim.Optimizer]

EQUAL: dict[str, Optimizers] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "mini-batch": lambda p: MiniBatchGD(p, lr=0.1, batch_size=6, momentum=0.5, dampening=0.1),
    "scaled": lambda p: MiniBatchGD(p, lr=lambda updates: 0.1 / (1 + updates), batch_size=6),
}


def ordinary(model: nn.Module, loss: Any, optimizer: Any) -> None:
    if isinstance(optimizer, MiniBatchGD):
        optimizer.step(lambda x, y: loss(model(x), y), INPUTS, CLASSES)
        return
    optimizer.zero_grad()
    loss(model(INPUTS), CLASSES).backward()
    optimizer.step()


@pytest.mark.filterwarnings("ignore:.*the trajectory depends")
@pytest.mark.parametrize("optimizers", EQUAL.values(), ids=EQUAL)
@pytest.mark.parametrize("loss", [functional.cross_entropy, two_costs])
def test_equal_to_the_ordinary_update(optimizers: Optimizers, loss: Any) -> None:
    torch.manual_seed(0)
    model = Branching().double() if loss is two_costs else perceptron()
    expected = copy.deepcopy(model)
    ours, theirs = optimizers(model.parameters()), optimizers(expected.parameters())
    algorithm = Backpropagation(model, loss, ours)
    for _ in range(4):
        cost, gradients = algorithm(INPUTS, CLASSES)
        assert cost.isfinite()
        assert not gradients
        ordinary(expected, loss, theirs)
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-12, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_sums_are_divided_by_the_examples_and_counted() -> None:
    model = perceptron()
    expected = copy.deepcopy(model)
    optimizer = MiniBatchGD(model.parameters(), lr=0.1, batch_size=6, reduction="sum")
    counted = []
    optimizer.register_update_hook(lambda optimizer: counted.append(optimizer.updates))
    total = torch.nn.CrossEntropyLoss(reduction="sum")
    Backpropagation(model, lambda y, t: 6 * functional.cross_entropy(y, t), optimizer)(INPUTS, CLASSES)
    ordinary(expected, total, MiniBatchGD(expected.parameters(), 0.1, batch_size=6, reduction="sum"))
    torch.testing.assert_close(model.state_dict(), expected.state_dict())
    assert (optimizer.updates, optimizer.examples_seen, counted) == (1, 6, [1])


def test_one_example_at_a_time() -> None:
    model = perceptron()
    expected = copy.deepcopy(model)
    algorithm = Backpropagation(model, functional.cross_entropy, StochasticGD(model.parameters(), lr=0.1))
    for x, t in zip(INPUTS.split(1), CLASSES.split(1), strict=True):
        algorithm(x, t)
    optimizer = StochasticGD(expected.parameters(), lr=0.1)
    optimizer.step(lambda x, t: functional.cross_entropy(expected(x), t), INPUTS, CLASSES)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


class Measured(torch.optim.SGD):
    """Notes how many bytes of gradients are alive at each step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: list[tuple[weakref.ref[Any], int]] = []
        self.held: list[int] = []

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                assert isinstance(p.grad, Tensor)
                self.gradients.append((weakref.ref(p.grad), p.grad.nbytes))
        super().step(closure)
        self.held.append(sum(size for gradient, size in self.gradients if gradient() is not None))


def test_no_more_than_one_layers_gradients_are_held() -> None:
    layers = [layer for _ in range(6) for layer in (nn.Linear(5, 5), nn.Tanh())]
    model = perceptron(*layers)
    optimizer = Measured(model.parameters(), lr=0.1)
    Backpropagation(model, functional.cross_entropy, optimizer)(INPUTS, CLASSES)
    assert len(optimizer.held) == 16
    assert max(optimizer.held) <= (5 * 5 + 5) * 8 < sum(size for _, size in optimizer.gradients) / 6


def test_what_the_optimizer_does_not_move_is_no_work() -> None:
    model = perceptron()
    before = copy.deepcopy(model[0].state_dict())
    Backpropagation(model, functional.cross_entropy, torch.optim.SGD(model[2].parameters()))(INPUTS, CLASSES)
    torch.testing.assert_close(model[0].state_dict(), before, rtol=0, atol=0)
    other = torch.optim.SGD(perceptron().parameters())
    with pytest.raises(ValueError, match=r"nothing to learn.*optimizer"):
        Backpropagation(model, functional.cross_entropy, other)(INPUTS, CLASSES)


def _hooked(p: Any) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(p, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


REFUSED: dict[str, tuple[Optimizers, str]] = {
    "clipping": (lambda p: MiniBatchGD(p, lr=0.1, batch_size=6, max_norm=1.0), "max_norm=1.0 bounds"),
    "a pass": (lambda p: BatchGD(p, lr=0.1), "BatchGD .* whole pass"),
    "averages": (lambda p: StochasticGD(p, lr=0.1, average=True), "average"),
    "variance": (lambda p: StochasticGD(p, lr=0.1, variance_reduction="svrg"), "variance_reduction"),
    "objective": (lambda p: StochasticGD(p, lr=0.1, schedule="adaptive"), "adaptive"),
    "line search": (lambda p: torch.optim.LBFGS(p), "LBFGS .* evaluates the cost again"),
    "hooks": (_hooked, "step hooks"),
}


@pytest.mark.parametrize(("optimizers", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_where_it_needs_all_gradients(optimizers: Optimizers, words: str) -> None:
    model = perceptron()
    with pytest.raises(ValueError, match=f"update=.*{words}.*without update"):
        Backpropagation(model, functional.cross_entropy, optimizers(model.parameters()))


def test_groups_that_span_calls() -> None:
    model = perceptron()
    before = copy.deepcopy(model.state_dict())
    optimizer = MiniBatchGD(model.parameters(), lr=0.1, batch_size=4)
    with pytest.raises(ValueError, match="update of 4 examples, and inputs has 6"):
        Backpropagation(model, functional.cross_entropy, optimizer)(INPUTS, CLASSES)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
