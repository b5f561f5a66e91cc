"""Rows, weights and gradients of every kind that the optimizers take, or refuse in a sentence."""

import copy
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.sequential_sgd import (
    GROUP_SIZES,
    LOADERS,
    LR,
    N,
    descend,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    reference,
    snapshot,
)
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD
from torch_backprop.optim.rows import count_rows, cut

each_variant = pytest.mark.parametrize("variant", GROUP_SIZES)


def make_weights() -> Tensor:
    """Weights from 0 to 3 with zeros among them; rows 8 to 23, two whole mini-batches, are masked."""
    weights = torch.rand(N, generator=torch.Generator().manual_seed(5)).double() * 3
    weights[::5] = 0
    weights[8:24] = 0
    return weights


def weighted_cost(model: nn.Module, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return (w * cross_entropy(model(x), y, reduction="none")).sum() / w.sum()


def weighted_reference(variant: str) -> list[Tensor]:
    model, rows = make_model(), (*make_data(), make_weights())
    sgd = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=0.1)
    trajectory = []
    for x, y, w in zip(*(row.split(GROUP_SIZES[variant]) for row in rows), strict=True):
        if w.sum() > 0:
            sgd.zero_grad()
            weighted_cost(model, x, y, w).backward()
            sgd.step()
            trajectory.append(snapshot(model))
    return trajectory


@pytest.mark.parametrize("size", LOADERS)
@pytest.mark.parametrize("form", ["cost", "closure"])
@each_variant
def test_weights_and_masked_groups(variant, form, size):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters(), momentum=0.9, weight_decay=0.1)
    trajectory = record(optimizer, model)
    rows = (*make_data(), make_weights())
    for batch in optimizer.epoch(zip(*(row.split(size) for row in rows), strict=True)):

        def closure(batch=batch):
            cost = weighted_cost(model, *optimizer.take(*batch, weight=batch[-1]))
            cost.backward()
            return cost

        if form == "closure":
            optimizer.step(closure)
        else:
            optimizer.step(lambda *rows: weighted_cost(model, *rows), *batch, weight=batch[-1])
    assert difference(trajectory, weighted_reference(variant)) < 1e-12
    assert optimizer.examples_seen == N


@each_variant
def test_nothing_but_masked_rows_is_no_update(variant):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters(), weight_decay=0.1)
    x, y = make_data()
    for batch in optimizer.epoch([(x, y)]):
        cost = optimizer.step(lambda x, y: cross_entropy(model(x), y), *batch, weight=torch.zeros(N))
        assert cost is None
    assert torch.equal(snapshot(model), snapshot(make_model()))
    assert (optimizer.updates, optimizer.examples_seen) == (0, N)


def test_an_empty_loader_batch_does_nothing():
    model = make_model()
    optimizer = StochasticGD(model.parameters(), LR)
    assert optimizer.step(lambda x: model(x).sum(), torch.empty(0, 5)) is None
    assert optimizer.examples_seen == 0


Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    "nest",
    [lambda x, y: {"x": x, "y": y}, Pair, lambda x, y: [x, (y,)], lambda x, y: Pair({"x": x}, [y])],
)
def test_nested_rows_are_cut_alike(nest):
    x, y = torch.arange(5.0), torch.arange(10).view(5, 2)
    assert count_rows(nest(x, y)) == 5
    found, expected = cut(nest(x, y), 1, 3), nest(x[1:3], y[1:3])
    assert type(found) is type(expected)
    assert str(found) == str(expected)


def test_take_hands_out_nested_rows():
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    trajectory = record(optimizer, model)
    x, y = make_data()
    for _ in range(2):
        for batch in optimizer.epoch([{"x": x, "y": y}]):
            optimizer.step(lambda rows: cross_entropy(model(rows["x"]), rows["y"]), batch)
    assert difference(trajectory, reference("minibatch")) < 1e-12


@pytest.mark.parametrize("form", ["cost", "closure"])
def test_grad_is_the_users_own(form):
    model = make_model()
    kept = [torch.full_like(parameter, 7.0) for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), kept, strict=True):
        parameter.grad = gradient
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 11, form)
    assert difference(trajectory, reference("minibatch")) < 1e-12
    assert all(a.grad is b and (b == 7).all() for a, b in zip(model.parameters(), kept, strict=True))


def test_zero_grad_anywhere_changes_nothing():
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    trajectory = record(optimizer, model)
    x, y = make_data()
    for _ in range(2):
        for batch in optimizer.epoch(zip(x.split(11), y.split(11), strict=True)):

            def closure(batch=batch):
                cost = cross_entropy(model(optimizer.take(*batch)[0]), optimizer.take(*batch)[1])
                optimizer.zero_grad(set_to_none=False)
                cost.backward()
                return cost

            with torch.no_grad():
                optimizer.step(closure)
            optimizer.zero_grad()
    assert difference(trajectory, reference("minibatch")) < 1e-12


class Gated(nn.Module):
    """A weight for rows above 0, one for the others, and two that no row uses: one of them frozen."""

    def __init__(self):
        super().__init__()
        self.high, self.low = (nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
        self.unused = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x):
        parts = ((self.high, x > 0), (self.low, x <= 0))
        return torch.cat([(gate * x[rows] - 2).square() for gate, rows in parts if rows.any()])


def test_parameters_that_some_rows_do_not_use():
    x = torch.linspace(-1, 1, 12).double()
    model, twin = Gated(), Gated()
    settings: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = MiniBatchGD(model.parameters(), batch_size=4, **settings)
    sgd = torch.optim.SGD(twin.parameters(), **settings)
    trajectory, expected = record(optimizer, model), []
    for group in x.split(4):
        sgd.zero_grad()
        twin(group).mean().backward()
        sgd.step()
        expected.append(snapshot(twin))
    for row in x.split(1):
        optimizer.step(lambda rows: model(rows).mean(), row)
    assert difference(trajectory, expected) < 1e-12
    assert torch.equal(model.unused, torch.ones(2))


def test_shared_and_complex_parameters():
    z = torch.randn(12, dtype=torch.complex128, generator=torch.Generator().manual_seed(6))
    theta, twin = (torch.ones((), dtype=torch.complex128, requires_grad=True) for _ in range(2))
    settings: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = MiniBatchGD([theta], batch_size=4, max_norm=1.0, **settings)
    sgd = torch.optim.SGD([twin], **settings)
    for group in z.split(4):
        sgd.zero_grad()
        (twin * twin - group).abs().square().mean().backward()
        nn.utils.clip_grad_norm_([twin], 1.0)
        sgd.step()
    for rows in z.split(3):
        optimizer.step(lambda rows: (theta * theta - rows).abs().square().mean(), rows)
    torch.testing.assert_close(theta, twin, rtol=0, atol=1e-12)


def test_half_precision_sums_in_float32():
    theta = torch.zeros((), dtype=torch.bfloat16, requires_grad=True)
    optimizer = BatchGD([theta], lr=1.0)
    for rows in optimizer.epoch(torch.ones(1000, dtype=torch.bfloat16).split(1)):
        optimizer.step(lambda rows: -(theta * rows).mean(), rows)
    assert theta.item() == 1.0


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = StochasticGD(embedding.parameters(), LR)
    with pytest.raises(RuntimeError, match=r"sparse=False"):
        optimizer.step(lambda x: embedding(x).sum(), torch.arange(4))


@pytest.mark.parametrize("variant", ["stochastic", "minibatch"])
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_closure_that_fails_leaves_everything_as_before_the_step(variant, error):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters(), momentum=0.9)
    x, y = make_data()
    optimizer.step(lambda x, y: cross_entropy(model(x), y), x[:11], y[:11])
    before, state = snapshot(model), copy.deepcopy(optimizer.state_dict())

    def closure():
        rows, classes = optimizer.take(x[11:], y[11:])
        if optimizer.updates > state["descent"]["updates"] + 2:
            raise error("data")
        cost = cross_entropy(model(rows), classes)
        cost.backward()
        return cost

    with pytest.raises(error):
        optimizer.step(closure)
    assert torch.equal(snapshot(model), before)
    assert str(optimizer.state_dict()) == str(state)
    assert all(parameter.grad is None for parameter in model.parameters())
