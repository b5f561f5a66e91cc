"""When a step that was compiled is used again, and when it is compiled anew, or not at all."""

import copy
import gc
import sys
import weakref
from collections.abc import Hashable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.sequential_sgd import snapshot
from tests.test_optim_descend import LR, data, needs_compiler, ordinarily, perceptron
from torch_backprop import nn
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import StochasticGD
from torch_backprop.optim.descend import compiled
from torch_backprop.optim.descend.key import key
from torch_backprop.optim.descend.path import Pass


@needs_compiler
@pytest.mark.slow
def test_a_step_is_compiled_once_for_a_model_and_its_options(monkeypatch):
    model, loss, (x, t) = perceptron(), nn.CrossEntropyLoss(), data()
    built = []
    monkeypatch.setattr(compiled.Compiled, "_prove", lambda *_: built.append(1))
    optimizers = [StochasticGD(model.parameters(), LR) for _ in range(2)]
    for optimizer in optimizers:
        optimizer.descend(model, loss, x, t, path="compiled")
        optimizer.descend(model, loss, x[:9], t[:9], path="compiled")
    assert len(built) == 1
    loss.label_smoothing = 0.5
    optimizers[0].descend(model, loss, x, t, path="compiled")
    assert len(built) == 2


class Scaled(torch.nn.Module):
    """Computes with numbers that Python has."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.linear, self.scales, self.config = nn.Linear(6, 3).double(), [1.0, 2.0], config

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) * self.scales[1] * self.config.scale * SCALE


SCALE = 1.0


@needs_compiler
@pytest.mark.slow
def test_numbers_that_python_changed_are_not_those_of_an_old_step(monkeypatch):
    torch.manual_seed(0)
    model, (x, t), scale = Scaled(SimpleNamespace(scale=1.0)), data(), 1.0
    twin = copy.deepcopy(model)

    def smoothed(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(scale * output, target)

    def change_closure() -> None:
        nonlocal scale
        scale = 2.0

    built = []
    monkeypatch.setattr(compiled.Compiled, "_prove", lambda *_: built.append(1))
    optimizer, plain = (StochasticGD(each.parameters(), LR) for each in (model, twin))
    changes = (
        lambda: None,
        lambda: None,
        change_closure,
        lambda: [each.scales.__setitem__(1, 0.5) for each in (model, twin)],
        lambda: [setattr(each.config, "scale", 3.0) for each in (model, twin)],
        lambda: monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.5),
    )
    for change in changes:
        change()
        optimizer.descend(model, smoothed, x, t, path="compiled")
        ordinarily(plain, twin, smoothed, x, t)
        assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10
    assert len(built) == len(changes) - 1


class Rates:
    """Numbers that a class holds."""

    rate = 1.0


class Weighed(torch.nn.Module):
    """Computes with what its class has, and what another method reads."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.rates = nn.Linear(6, 3).double(), Rates()

    def _scaled(self, y: Tensor) -> Tensor:
        return y * SCALE

    def forward(self, x: Tensor) -> Tensor:
        return self._scaled(self.linear(x)) * self.factor


def weighed(output: Tensor, target: Tensor) -> Tensor:
    return Rates.rate * cross_entropy(output, target) * sum(SCALE for _ in range(2))


def key_of(model: torch.nn.Module, loss: Any) -> Hashable:
    x, t = data()
    return key(Pass(StochasticGD(model.parameters(), LR), model, loss, x, t, len(x), asked=True))


def test_what_a_key_sees(monkeypatch):
    model, criterion, smoothed = Weighed(), nn.CrossEntropyLoss(), partial(cross_entropy, label_smoothing=0.0)
    by_closure, named = lambda y, t: criterion(y, t), lambda y, t: weighed(y, t)
    changes: list[tuple[torch.nn.Module, Any, Any]] = [
        (model, weighed, lambda: monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.5)),
        (model, cross_entropy, lambda: monkeypatch.setattr(sys.modules[__name__], "SCALE", 0.25)),
        (model, named, lambda: monkeypatch.setattr(Rates, "rate", 2.0)),
        (model, cross_entropy, lambda: monkeypatch.setattr(Rates, "rate", 3.0)),
        (model, cross_entropy, lambda: monkeypatch.setattr(Weighed, "factor", 2.0)),
        (model, by_closure, lambda: setattr(criterion, "label_smoothing", 0.5)),
        (model, smoothed, lambda: smoothed.keywords.update(label_smoothing=0.5)),
        (model, cross_entropy, lambda: setattr(model.linear.weight, "data", torch.ones(4, 6).double())),
    ]
    for each, loss, change in changes:
        before = key_of(each, loss)
        assert key_of(each, loss) == before
        change()
        assert key_of(each, loss) != before


def test_a_key_knows_a_new_function_of_the_same_code_and_keeps_no_model():
    def loss_of(model: Any) -> Any:
        return lambda output, target: cross_entropy(output, target) + 0 * model.linear.weight.sum()

    model = Weighed()
    found = key_of(model, loss_of(model))
    assert key_of(model, loss_of(model)) == found
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


class Remembering(torch.nn.Module):
    """Goes on from what the last example left."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.last = nn.Linear(6, 3).double(), torch.zeros(1, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x.flatten(1)) + self.last
        self.last = y.detach() / 2
        return y


class Collecting(torch.nn.Module):
    """Goes on from all that the examples before have left, in a list or a dict."""

    def __init__(self, seen: Any) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(6, 3).double(), seen

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x.flatten(1)) / (1 + len(self.seen))
        if isinstance(self.seen, dict):
            self.seen[len(self.seen)] = y.detach()
        else:
            self.seen.append(y.detach())
        return y


@pytest.mark.parametrize("path", ["compiled", "unrolled"])
def test_a_model_that_remembers_is_not_compiled(path):
    torch.manual_seed(0)
    model, (x, t) = Remembering(), data()
    optimizer, last = StochasticGD(model.parameters(), LR), model.last
    with pytest.raises(ValueError, match=r"it sets no attributes, as Remembering does \['last'\]"):
        optimizer.descend(model, cross_entropy, x, t, path=path)
    assert model.last is last
    for seen in ([], {}):
        model = Collecting(seen)
        optimizer = StochasticGD(model.parameters(), LR)
        with pytest.raises(ValueError, match=r"it sets no attributes, as Collecting does \['seen'\]"):
            optimizer.descend(model, cross_entropy, x, t, path=path)
        assert model.seen is seen
        assert not seen
