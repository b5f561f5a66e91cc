"""Which path is taken, what refuses one, and what becomes of an example that no path can do."""

import io
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.sequential_sgd import snapshot
from tests.test_optim_descend import LR, PATHS, N, data, needs_compiler, ordinarily, perceptron
from torch_backprop import nn
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD, bar
from torch_backprop.optim.descend import compiled
from torch_backprop.optim.descend.loops import library


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """In place of what Inductor would make of the graph of a stretch, a short one, the graph."""
    monkeypatch.setattr("torch._inductor.compile", lambda graph, _: graph)
    monkeypatch.setattr("torch_backprop.optim.descend.unrolled.STEPS", 2)


def many(repeat: int = 5) -> tuple[Tensor, Tensor]:
    x, t = data()
    return x.repeat(repeat, 1, 1), t.repeat(repeat)


def taken(model: torch.nn.Module, x: Tensor, t: Tensor, passes: int = 1, **settings: Any) -> dict[str, int]:
    optimizer = StochasticGD(model.parameters(), LR, **settings)
    for _ in range(passes):
        optimizer.descend(model, cross_entropy, x, t)
    return optimizer.paths


@needs_compiler
@pytest.mark.slow
def test_compiling_has_to_repay_itself(monkeypatch):
    monkeypatch.setattr(compiled.Compiled, "building", math.inf)
    assert taken(perceptron(), *many()) == {"vectors": 5 * N}
    monkeypatch.setattr(compiled.Compiled, "building", 0.0)
    model = perceptron()
    assert taken(model, *many()) == {"vectors": 64, "compiled": 5 * N - 64}
    # It took some time, and is known; so a later pass takes it from the start.
    assert 0 < compiled.Compiled.building < math.inf
    assert taken(model, *many()) == {"compiled": 5 * N}
    # What was spent on slower passes counts.
    monkeypatch.setattr(compiled.Compiled, "building", 0.005)
    assert taken(perceptron(), *data(), passes=30) == {"compiled": N}


@needs_compiler
@pytest.mark.slow
def test_a_stretch_that_is_interrupted_is_none(monkeypatch):
    model, (x, t) = perceptron(), data()
    before, optimizer = snapshot(model), StochasticGD(model.parameters(), LR)

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    # Python raises it after a call of compiled code, which this follows.
    monkeypatch.setattr("torch_backprop.optim.descend.built.increment_version", interrupt)
    with pytest.raises(KeyboardInterrupt):
        optimizer.descend(model, cross_entropy, x, t, path="compiled")
    assert torch.equal(snapshot(model), before)
    assert optimizer.updates == 0


@needs_compiler
@pytest.mark.slow
def test_a_momentum_begins_by_the_tape(monkeypatch):
    monkeypatch.setattr(compiled.Compiled, "building", 0.0)
    assert taken(perceptron(), *many(), momentum=0.9) == {"tape": 64, "compiled": 5 * N - 64}
    model, (x, t) = perceptron(), data()
    optimizer = StochasticGD(model.parameters(), LR, momentum=0.9)
    optimizer.descend(model, cross_entropy, x, t, path="compiled")
    assert optimizer.paths == {"tape": 1, "compiled": N - 1}


def test_without_a_compiler_there_are_other_paths(monkeypatch):
    monkeypatch.setattr("torch_backprop.optim.descend.compiled.compiler", lambda: None)
    monkeypatch.setattr(compiled.Compiled, "building", 0.0)
    assert taken(perceptron(), *many()) == {"vectors": 5 * N}
    model = perceptron()
    with pytest.raises(ValueError, match=r"it needs a C compiler, and found none: install one, or set CC"):
        StochasticGD(model.parameters(), LR).descend(model, cross_entropy, *data(), path="compiled")


@needs_compiler
@pytest.mark.slow
def test_a_compiler_that_errs_is_found_out(monkeypatch, tmp_path):
    monkeypatch.setattr("torch_backprop.optim.descend.compiled.load", lambda _: lambda count, *_: count)
    model = perceptron()
    optimizer = StochasticGD(model.parameters(), LR)
    with pytest.raises(ValueError, match="the C compiler's code computes another"):
        optimizer.descend(model, cross_entropy, *data(), path="compiled")
    monkeypatch.setenv("TORCH_BACKPROP_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match="the C compiler failed"):
        library.load("this is no C")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".so"]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("dtype", "place"), [(torch.float64, 0), (torch.float32, 23)])
def test_an_example_whose_cost_is_not_finite_is_named(path, dtype, place):
    (x, t), model, twin = data(dtype), perceptron(dtype), perceptron(dtype)
    x[place, 0, 0] = math.inf
    x[place, 0, 1] = -math.inf
    optimizer, plain = (
        StochasticGD(each.parameters(), lambda update: LR / (1 + update)) for each in (model, twin)
    )
    with pytest.raises(ValueError, match=f"The cost of example {place} is not finite: look at this example"):
        optimizer.descend(model, cross_entropy, x, t, path=path)
    if place:
        ordinarily(plain, twin, cross_entropy, x[:place], t[:place])
    assert (snapshot(model) - snapshot(twin)).abs().max() <= (1e-10 if dtype == torch.float64 else 1e-4)
    assert (optimizer.updates, optimizer.examples_seen) == (place, place)
    assert optimizer.param_groups[0]["lr"] == plain.param_groups[0]["lr"]


@pytest.mark.parametrize("path", ["autograd", "tape"])
@pytest.mark.parametrize(("size", "before"), [(8, 16), (math.inf, 0)])
def test_an_example_of_a_group_whose_cost_is_not_finite_is_named(path, size, before):
    (x, t), model, twin = data(), perceptron(), perceptron()
    x[21] = math.nan
    optimizer, plain = (
        BatchGD(each.parameters(), LR) if size == math.inf else MiniBatchGD(each.parameters(), LR, 8)
        for each in (model, twin)
    )
    with pytest.raises(ValueError, match="The cost of example 21 is not finite"):
        optimizer.descend(model, cross_entropy, x, t, path=path)
    ordinarily(plain, twin, cross_entropy, x[:before], t[:before]) if before else None
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10
    assert (optimizer.updates, optimizer.examples_seen) == (before // 8, before)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_a_class_out_of_range_is_refused_in_torchs_words(path):
    (x, t), model, twin = data(), perceptron(), perceptron()
    t[7] = 3
    optimizer = StochasticGD(model.parameters(), LR)
    words = "classes from 0 to 2" if path == "vectors" else "Target 3 is out of bounds"
    with pytest.raises((IndexError, ValueError), match=words):
        optimizer.descend(model, cross_entropy, x, t, path=path)
    done = 0 if path == "vectors" else 7
    if done:
        ordinarily(StochasticGD(twin.parameters(), LR), twin, cross_entropy, x[:done], t[:done])
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10
    assert optimizer.updates == done


@needs_compiler
def test_integers_are_refused_by_compiled_code_too():
    (x, t), model = data(), perceptron()
    with pytest.raises(TypeError, match=r"inputs is a tensor of torch.int64.*pass inputs.float\(\)"):
        StochasticGD(model.parameters(), LR).descend(model, cross_entropy, x.long(), t, path="compiled")


@needs_compiler
@pytest.mark.parametrize("path", ["compiled", "unrolled"])
def test_classes_that_torch_refuses_are_refused_by_compiled_code_too(path):
    (x, t), model = data(), perceptron()
    with pytest.raises(ValueError, match=r"is not possible: .*expected target dtype to be Long"):
        StochasticGD(model.parameters(), LR).descend(model, cross_entropy, x, t.int(), path=path)
    with pytest.raises(RuntimeError, match="expected target dtype to be Long"):
        StochasticGD(model.parameters(), LR).descend(model, cross_entropy, x, t.int())


def test_bad_input_is_refused_with_what_to_do():
    (x, t), model = data(), perceptron()
    optimizer = StochasticGD(model.parameters(), LR)
    wrong: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "targets has 9 rows and inputs has 40", (model, cross_entropy, x, t[:9])),
        (ValueError, "inputs has a scalar", (model, cross_entropy, x[0, 0, 0], t)),
        (ValueError, r"inputs has tensors of \[40, 9\] rows", (model, cross_entropy, (x, x[:9]), t)),
        (TypeError, "targets is a list", (model, cross_entropy, x, t.tolist())),
        (TypeError, "model is a function", (lambda x: x, cross_entropy, x, t)),
        (TypeError, "loss", (model, None, x, t)),
        (TypeError, r"inputs.*torch.int64.*pass inputs.float\(\)", (model, cross_entropy, x.long(), t)),
        (ValueError, "nothing to learn", (nn.Linear(6, 3), cross_entropy, x, t)),
    ]
    for kind, words, arguments in wrong:
        with pytest.raises(kind, match=words):
            optimizer.descend(*arguments)
    for path in ("unrolled", "autograd", "tape"):
        for integers in (x.long(), x > 0):
            with pytest.raises(TypeError, match=r"inputs is a tensor of .*pass inputs.float\(\)"):
                optimizer.descend(model, cross_entropy, integers, t, path=path)
    with pytest.raises(ValueError, match="path='fast' is not possible: path must be one of"):
        optimizer.descend(model, cross_entropy, x, t, path="fast")
    assert torch.equal(snapshot(model), snapshot(perceptron()))
    assert optimizer.updates == 0


def test_what_vectors_do_not_know_is_said():
    x, t = data()
    x = x.flatten(1)
    shared = nn.Linear(6, 6).double()
    sequential = torch.nn.Sequential
    cases: list[tuple[str, Any, Any, Any]] = [
        ("it does not know LayerNorm", sequential(nn.LayerNorm(6).double()), cross_entropy, t),
        ("it updates a layer before", sequential(shared, nn.Tanh(), shared), cross_entropy, t),
        ("it knows CrossEntropyLoss and MSELoss", shared, nn.L1Loss(), x),
        ("it weighs no classes", shared, nn.CrossEntropyLoss(weight=torch.ones(6).double()), t),
        ("it takes class indices", shared, cross_entropy, x),
        (
            "parameters and inputs are all float32, or all float64, and inputs is",
            nn.Linear(6, 3),
            cross_entropy,
            t,
        ),
        ("it takes targets of shape", shared, nn.MSELoss(), x[:, :2]),
    ]
    for words, model, loss, targets in cases:
        with pytest.raises(ValueError, match=f"path='vectors' is not possible: {words}"):
            StochasticGD(model.parameters(), LR).descend(model, loss, x, targets, path="vectors")


def test_a_long_pass_shows_how_far_it_is(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    (x, t), model = data(), perceptron()
    optimizer = StochasticGD(model.parameters(), LR)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    optimizer.descend(model, cross_entropy, x, t)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(bar, "PATIENCE", 0.0)
    optimizer.descend(model, cross_entropy, x, t, quiet=True)
    assert terminal.getvalue() == ""
    optimizer.descend(model, cross_entropy, x, t)
    assert "40 of 40 examples, vectors" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
