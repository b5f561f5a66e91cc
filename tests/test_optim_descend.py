"""One pass over tensors in memory: every path ends where the ordinary protocol does."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.sequential_sgd import GROUP_SIZES, SETTINGS, make_optimizer, snapshot
from torch_backprop import nn
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import Descent, StochasticGD
from torch_backprop.optim.descend.loops import compiler

N = 40
LR = 0.02
PATHS = ("compiled", "vectors", "autograd", "tape")
needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


def perceptron(dtype: torch.dtype = torch.float64) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Sigmoid())
    return torch.nn.Sequential(*layers, nn.Linear(4, 3)).to(dtype)


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 2, 3, generator=generator, dtype=dtype), torch.randint(3, (N,), generator=generator)


def ordinarily(optimizer: Descent, model: Any, loss: Any, x: Tensor, t: Tensor) -> Any:
    cost = None
    for rows in optimizer.epoch([(x, t)]):
        cost = optimizer.step(lambda x, t: loss(model(x), t), *rows)
    return cost


def both(make: Any, path: str | None, model: Any, loss: Any, x: Tensor, t: Tensor, passes: int = 2) -> Any:
    """Two passes by a path and by the protocol: optimizer and model of each, and the costs of each."""
    twin = copy.deepcopy(model)
    ours, theirs = make(model), make(twin)
    found = [ours.descend(model, loss, x, t, path=path) for _ in range(passes)]
    expected = [ordinarily(theirs, twin, loss, x, t) for _ in range(passes)]
    return ours, theirs, model, twin, found, expected


def assert_same(outcome: Any, bound: float = 1e-10) -> None:
    ours, theirs, model, twin, found, expected = outcome
    assert (snapshot(model) - snapshot(twin)).abs().max() <= bound
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)
    assert_alike(ours.state_dict(), theirs.state_dict(), bound)


def assert_alike(found: Any, expected: Any, bound: float) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key], bound)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_alike(a, b, bound)
    elif isinstance(expected, (Tensor, float)):
        torch.testing.assert_close(found, expected, rtol=0, atol=bound, equal_nan=True)
    else:
        assert found == expected


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_paths_end_in_the_same_parameters(path, dtype, bound):
    outcome = both(
        lambda model: StochasticGD(model.parameters(), LR),
        path,
        perceptron(dtype),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        *data(dtype),
    )
    assert_same(outcome, bound)
    assert outcome[0].paths == {path: N}
    assert outcome[0].updates == outcome[0].examples_seen == 2 * N


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["weight_decay", "maximize", "dampening", "all", "max_norm"])
def test_settings_are_those_of_the_protocol(name):
    settings: Any = {**SETTINGS, "max_norm": {"max_norm": 0.3}}[name]
    paths = PATHS[:1] if settings.get("momentum") or name == "max_norm" else PATHS[:2]
    for path in paths:
        make = lambda model: StochasticGD(model.parameters(), LR, **settings)  # noqa: E731
        assert_same(both(make, path, perceptron(), cross_entropy, *data()))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"lr": lambda update: LR / (1 + update)},
        {"lr": 0.5, "schedule": "invscaling"},
        {"lr": 0.5, "schedule": "optimal", "weight_decay": 0.1},
        {"lr": 0.5, "schedule": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    ],
    ids=["function", "invscaling", "optimal", "adaptive"],
)
@pytest.mark.parametrize("path", PATHS)
def test_rates_fall_as_they_do_in_the_protocol(path, settings):
    make = lambda model: StochasticGD(model.parameters(), **settings)  # noqa: E731
    outcome = both(make, path, perceptron(), cross_entropy, *data(), passes=3)
    assert_same(outcome)
    assert outcome[0].param_groups[0]["lr"] == outcome[1].param_groups[0]["lr"]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_groups_have_rates_of_their_own_and_what_is_frozen_stays(path):
    def make(model):
        groups = [{"params": model[1].parameters(), "weight_decay": 0.1}, {"params": [model[6].weight]}]
        groups[1] |= {"lr": LR / 3, "maximize": True}
        return StochasticGD(groups, LR)

    model = perceptron()
    model[1].weight.requires_grad_(False)
    before = {name: theta.detach().clone() for name, theta in model.named_parameters()}
    outcome = both(make, path, model, nn.CrossEntropyLoss(reduction="sum"), *data())
    assert_same(outcome)
    kept = {name for name, theta in model.named_parameters() if torch.equal(theta, before[name])}
    assert kept == {"1.weight", "3.weight", "6.bias"}


def test_elementwise_layers_may_be_first_and_last_and_follow_each_other():
    torch.manual_seed(0)
    layers = (nn.Tanh(), nn.Linear(6, 5), nn.Sigmoid(), nn.Tanh(), nn.Linear(5, 3, bias=False), nn.ReLU())
    (x, t), model = data(), torch.nn.Sequential(*layers, nn.Tanh()).double()
    x, make = x.flatten(1), lambda model: StochasticGD(model.parameters(), LR)
    before = x.clone()
    assert_same(both(make, "vectors", model, cross_entropy, x, t))
    assert torch.equal(x, before)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"reduction": "sum"}])
@pytest.mark.parametrize("variant", ["batch", "minibatch"])
def test_groups_of_many_go_by_autograd_or_the_tape(variant, settings, monkeypatch):
    monkeypatch.setattr("torch_backprop.optim.descend.steps.Steps.stretch", 7)
    loss = nn.CrossEntropyLoss(reduction=settings.get("reduction", "mean"))
    make = lambda model: make_optimizer(variant, model.parameters(), LR, **settings)  # noqa: E731
    for path in (None, "tape"):
        outcome = both(make, path, perceptron(), loss, *data())
        assert_same(outcome)
        assert outcome[0].paths == {path or "autograd": N}
    model = perceptron()
    optimizer: Any = make(model)
    with torch.inference_mode():
        optimizer.descend(model, loss, *data())
    assert optimizer.paths == {"tape": N}
    assert GROUP_SIZES[variant] != 1


@pytest.mark.parametrize(
    "settings",
    [
        {"average": True},
        {"variance_reduction": "svrg", "inner_passes": 1},
        {"schedule": "adaptive", "weight_decay": 0.1},
    ],
)
def test_what_the_fast_paths_do_not_know_goes_by_the_tape(settings):
    make = lambda model: StochasticGD(model.parameters(), LR, **settings)  # noqa: E731
    for path in (None, "autograd"):
        outcome = both(make, path, perceptron(), cross_entropy, *data())
        assert_same(outcome)
        assert outcome[0].paths == {path or "tape": N}
    model = perceptron()
    for path in PATHS[:2]:
        with pytest.raises(ValueError, match=f"path='{path}' is not possible: it "):
            make(model).descend(model, cross_entropy, *data(), path=path)


def test_hooks_are_called():
    model, seen = perceptron(), []
    optimizer = StochasticGD(model.parameters(), LR)
    optimizer.register_update_hook(lambda optimizer: seen.append(optimizer.updates))
    optimizer.descend(model, cross_entropy, *data())
    assert seen == list(range(1, N + 1))
    hooked = perceptron()
    hooked[2].register_forward_hook(lambda *_: seen.append(0))
    optimizer = StochasticGD(hooked.parameters(), LR)
    with pytest.raises(ValueError, match=r"it would not call the hooks of 2 \(Tanh\)"):
        optimizer.descend(hooked, cross_entropy, *data(), path="vectors")
    optimizer.descend(hooked, cross_entropy, *data())
    assert seen.count(0) == N
    model, twin = perceptron(), perceptron()
    for each in (model, twin):
        each[6].get_parameter("weight").register_hook(lambda g: 2 * g)
    optimizer = StochasticGD(model.parameters(), LR)
    optimizer.descend(model, cross_entropy, *data())
    assert optimizer.paths == {"tape": N}
    words = "it would not call the hooks of parameter 6.weight"
    assert {optimizer.why_not[path] for path in PATHS[:2]} == {words}
    ordinarily(StochasticGD(twin.parameters(), LR), twin, cross_entropy, *data())
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10


def test_dropout_is_drawn_as_in_the_protocol():
    model = torch.nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 3)).double()
    x, t = data()
    twin = copy.deepcopy(model)
    for descend, each in ((StochasticGD.descend, model), (ordinarily, twin)):
        torch.manual_seed(5)
        optimizer = StochasticGD(each.parameters(), LR)
        with pytest.warns(UserWarning, match="Dropout in training mode"):
            descend(optimizer, each, cross_entropy, x.flatten(1), t)
    assert torch.equal(snapshot(model), snapshot(twin))


@needs_compiler
@pytest.mark.slow
def test_a_scheduler_goes_on_and_a_graph_of_before_is_known_to_be_old():
    for path in PATHS:
        model, (x, t) = perceptron(), data()
        optimizer = StochasticGD(model.parameters(), LR)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        cost = cross_entropy(model(x), t)
        optimizer.descend(model, cross_entropy, x, t, path=path)
        scheduler.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            cost.backward()


@needs_compiler
@pytest.mark.slow
def test_squared_error_by_every_path():
    for loss in (nn.MSELoss(), nn.MSELoss(reduction="sum")):
        for path in PATHS:
            model, (x, _) = perceptron()[:3], data()
            make = lambda model: StochasticGD(model.parameters(), LR)  # noqa: E731
            assert_same(both(make, path, model, loss, x, x.flatten(1)[:, :5]))


def test_no_examples_are_no_updates():
    model, (x, t) = perceptron(), data()
    optimizer = StochasticGD(model.parameters(), LR)
    assert optimizer.descend(model, cross_entropy, x[:0], t[:0]) is None
    assert (optimizer.updates, optimizer.paths) == (0, {})
