"""A stretch of examples unrolled into one graph, which Inductor compiles: on the CPU, and on CUDA if any."""

import copy
import math
from typing import Any

import pytest
import torch

from tests.sequential_sgd import snapshot
from tests.test_optim_descend import LR, N, assert_same, both, data, ordinarily, perceptron
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import StochasticGD
from torch_backprop.optim.descend.compiled import Compiled
from torch_backprop.optim.descend.unrolled import Unrolled

SETTINGS: dict[str, Any] = {
    "plain": {"lr": LR},
    "all": {"lr": LR, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01, "max_norm": 0.3},
    "function": {"lr": lambda update: LR / (1 + update)},
    "adaptive": {"lr": 0.5, "schedule": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
}
STEPS = 3
"""Examples of a graph: few, for their steps are all alike."""
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("torch_backprop.optim.descend.unrolled.STEPS", STEPS)


@pytest.fixture
def uncompiled(monkeypatch):
    """The graph as it is, in place of what half a minute of compiling would make of it."""
    monkeypatch.setattr("torch._inductor.compile", lambda graph, _: graph)


def sorting(output: Any, target: Any) -> Any:
    return cross_entropy(output.sort()[0], target)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_CUDA)])
def test_compiled_by_inductor_it_ends_in_the_same_parameters(device):
    # Of few kernels, each of which takes a second or two.
    x, t = (each.to(device) for each in data())
    make = lambda model: StochasticGD(model.parameters(), LR)  # noqa: E731
    outcome = both(make, "unrolled", perceptron()[:2].to(device), sorting, x, t)
    assert_same(outcome)
    assert outcome[0].paths == {"unrolled": N}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_those_of_the_protocol(name, uncompiled):
    make = lambda model: StochasticGD(model.parameters(), **SETTINGS[name])  # noqa: E731
    outcome = both(make, "unrolled", perceptron(), cross_entropy, *data(), passes=3)
    assert_same(outcome)
    assert N % STEPS
    assert outcome[0].paths == {"unrolled": N}


@pytest.mark.parametrize("place", [0, 2, 3, 23])
def test_it_ends_before_an_example_whose_cost_is_not_finite(place, uncompiled):
    (x, t), model, twin = data(), perceptron(), perceptron()
    x[place] = math.nan
    optimizer = StochasticGD(model.parameters(), LR)
    with pytest.raises(ValueError, match=f"The cost of example {place} is not finite"):
        optimizer.descend(model, cross_entropy, x, t, path="unrolled")
    if place:
        ordinarily(StochasticGD(twin.parameters(), LR), twin, cross_entropy, x[:place], t[:place])
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10
    assert optimizer.updates == place


def test_an_index_out_of_range_is_refused_in_torchs_words(uncompiled):
    (x, t), model, twin = data(), perceptron(), perceptron()
    t[20] = 3
    optimizer = StochasticGD(model.parameters(), LR)
    with pytest.raises(IndexError, match="Target 3 is out of bounds"):
        optimizer.descend(model, cross_entropy, x, t, path="unrolled")
    ordinarily(StochasticGD(twin.parameters(), LR), twin, cross_entropy, x[:20], t[:20])
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10


def test_it_is_taken_where_there_is_no_translation_into_c(uncompiled, monkeypatch):
    tried = []
    monkeypatch.setattr(Compiled, "building", 0.0)
    monkeypatch.setattr(Unrolled, "building", 0.0)
    monkeypatch.setattr(Compiled, "check_device", classmethod(lambda *_: None))
    monkeypatch.setattr("torch_backprop.optim.descend.compiled.write", _refuse(tried))
    model, (x, t) = perceptron(), data()
    x, t = x.repeat(5, 1, 1), t.repeat(5)
    twin = copy.deepcopy(model)
    optimizer = StochasticGD(model.parameters(), LR)
    optimizer.descend(model, sorting, x, t)
    assert optimizer.paths == {"tape": 64, "unrolled": 5 * N - 64}
    ordinarily(StochasticGD(twin.parameters(), LR), twin, sorting, x, t)
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10
    # That there is none is known, and so is the graph.
    optimizer.descend(model, sorting, x, t)
    assert (tried, optimizer.paths) == ([1], {"unrolled": 5 * N})


def _refuse(tried: list[int]) -> Any:
    from torch_backprop.optim.descend.loops import Unknown

    def write(*_: Any) -> None:
        tried.append(1)
        raise Unknown("aten.sort.default")

    return write


def test_what_inductor_gets_wrong_or_cannot_do_is_found_out(monkeypatch):
    def fail(*_: Any) -> None:
        raise RuntimeError("no compiler")

    model = perceptron()
    optimizer = StochasticGD(model.parameters(), LR)
    monkeypatch.setattr("torch._inductor.compile", fail)
    with pytest.raises(ValueError, match=r"Inductor cannot compile it \(RuntimeError: no compiler\)"):
        optimizer.descend(model, cross_entropy, *data(), path="unrolled")
    wrong = lambda graph, _: lambda *given: [2 * each for each in graph(*given)]  # noqa: E731
    monkeypatch.setattr("torch._inductor.compile", wrong)
    with pytest.raises(ValueError, match="Inductor's code computes another cost than PyTorch"):
        optimizer.descend(model, sorting, *data(), path="unrolled")
