"""Steps of one window, and what turns them into longer ones; failures leave no trace."""

import math
import pickle
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from tests.sequential_sgd import (
    GROUP_SIZES,
    LR,
    N,
    batches,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    reference,
    snapshot,
)
from tests.test_optim_rows import make_weights, weighted_cost, weighted_reference
from torch_backprop.optim import StochasticGD
from torch_backprop.optim.short_step import ShortStep

each_variant = pytest.mark.parametrize("variant", GROUP_SIZES)


@each_variant
def test_loader_batches_that_fit_take_the_short_way(variant, monkeypatch):
    taken: list[int] = []
    finish = ShortStep._finish
    monkeypatch.setattr(ShortStep, "_finish", lambda self, found: taken.append(1) or finish(self, found))
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters())
    # Nothing is left to observe, as after the first steps.
    optimizer._unseen = set()
    trajectory = record(optimizer, model)
    for size in (1, N):
        for x, y in optimizer.epoch(batches(size)):
            optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)
    assert difference(trajectory, reference(variant)) < 1e-12
    assert len(taken) == (N + 1 if variant == "batch" else N)


@each_variant
@pytest.mark.parametrize("size", [1, 5, 29])
def test_a_closure_may_take_inputs_and_targets_apart(variant, size):
    """Weights with the second, which only then turn out to be there."""
    model, weights = make_model(), make_weights()
    optimizer = make_optimizer(variant, model.parameters(), momentum=0.9, weight_decay=0.1)
    optimizer._unseen = set()
    trajectory = record(optimizer, model)
    for (x, y), w in optimizer.epoch(zip(batches(size), weights.split(size), strict=True)):

        def closure(x=x, y=y, w=w):
            (inputs,) = optimizer.take(x)
            targets, shares = optimizer.take(y, w, weight=w)
            cost = weighted_cost(model, inputs, targets, shares)
            cost.backward()
            return cost

        optimizer.step(closure)
    assert difference(trajectory, weighted_reference(variant)) < 1e-12


def failing(optimizer: Any, model: nn.Module, name: str) -> None:
    x, y = make_data()

    def apart():
        (inputs,), (targets,) = optimizer.take(x[:1]), optimizer.take(y[:2])
        return cross_entropy(model(inputs), targets).backward()

    def nested(x, y):
        return optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)

    {
        "got 2 rows, and 1 before": lambda: optimizer.step(apart),
        "step() was called inside": lambda: optimizer.step(nested, x[:1], y[:1]),
        "never called take()": lambda: optimizer.step(lambda: model(x).mean().backward()),
        "not finite": lambda: optimizer.step(lambda x, y: model(x).mean() * math.nan, x[:1], y[:1]),
        "rows[1] has 2 rows": lambda: optimizer.step(lambda x, y: model(x).mean(), x[:1], y[:2]),
    }[name]()


@each_variant
@pytest.mark.parametrize(
    "said",
    [
        "got 2 rows, and 1 before",
        "step() was called inside",
        "never called take()",
        "not finite",
        "rows[1] has 2 rows",
    ],
)
def test_a_short_step_that_fails_leaves_everything_as_it_was(variant, said):
    model, (x, y) = make_model(), make_data()
    optimizer = make_optimizer(variant, model.parameters(), momentum=0.9)
    optimizer._unseen = set()
    optimizer.step(lambda x, y: cross_entropy(model(x), y), x[:3], y[:3])
    before = snapshot(model), pickle.dumps(optimizer.state_dict())
    with pytest.raises((RuntimeError, ValueError), match=re.escape(said)):
        failing(optimizer, model, said)
    assert torch.equal(snapshot(model), before[0])
    assert str(optimizer.state_dict()) == str(pickle.loads(before[1]))


@pytest.mark.parametrize("rows", [4, 5, 20])
@pytest.mark.parametrize("variant", ["stochastic", "minibatch"])
def test_a_rate_that_is_refused_leaves_everything_as_it_was(variant, rows):
    model, (x, y) = make_model(), make_data()

    def lr(update):
        return LR if update < 1 else math.nan

    optimizer = make_optimizer(variant, model.parameters(), lr=lr)
    first = {"stochastic": 1, "minibatch": 12}[variant]
    optimizer.step(lambda x, y: cross_entropy(model(x), y), x[:first], y[:first])
    before = snapshot(model), str(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"lr\(1\)=nan is not possible"):
        optimizer.step(lambda x, y: cross_entropy(model(x), y), x[:rows], y[:rows])
    assert torch.equal(snapshot(model), before[0])
    assert str(optimizer.state_dict()) == before[1]
    if variant == "minibatch":
        with pytest.raises(ValueError, match=r"lr\(1\)=nan is not possible"):
            optimizer.flush()
        assert str(optimizer.state_dict()) == before[1]


def test_a_profiler_finds_the_step_by_its_name():
    model, (x, y) = make_model(), make_data()
    optimizer = StochasticGD(model.parameters(), LR)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)
    assert "Optimizer.step#StochasticGD.step" in {event.key for event in seen.key_averages()}
