"""The training step as a pure function of tensors: exported, it trains where this package is not."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_algorithm import CLASSES, INPUTS, perceptron
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import torch_backprop
from experiments import take_away
from torch_backprop import Backpropagation, functional
from torch_backprop.optim import MiniBatchGD, StochasticGD

Optimizers = Callable[[Any], Any]

OPTIMIZERS: dict[str, Optimizers] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "maximize": lambda p: MiniBatchGD(p, lr=0.1, batch_size=6, momentum=0.9, maximize=True),
}

ALONE = """
import sys
import torch

sys.modules["torch_backprop"] = None  # an import of it raises
with torch.autograd.set_multithreading_enabled(False), torch.no_grad():
    step = torch.export.load(sys.argv[1]).module()
    parameters, state, inputs, targets = torch.load(sys.argv[2])
    for _ in range(5):
        cost, parameters, state = step(parameters, state, inputs, targets)
    torch.save((cost, parameters, state), sys.argv[3])
"""


def normalized() -> nn.Sequential:
    model = perceptron(nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 5))
    model[3].requires_grad_(False)
    return model


def trained(model: nn.Module, loss: Any, optimizer: Any, steps: int) -> Tensor:
    cost = torch.tensor(0.0)
    for _ in range(steps):
        if isinstance(optimizer, MiniBatchGD):
            cost = optimizer.step(lambda x, y: loss(model(x), y), INPUTS, CLASSES)
        else:
            optimizer.zero_grad()
            cost = loss(model(INPUTS), CLASSES)
            cost.backward()
            optimizer.step()
    return cost.detach()


@pytest.mark.filterwarnings("ignore:.*the trajectory depends")
@pytest.mark.parametrize("optimizers", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("build", [perceptron, normalized])
def test_a_pure_function(optimizers: Optimizers, build: Callable[[], nn.Sequential]) -> None:
    model = build()
    expected = copy.deepcopy(model)
    loss = torch_backprop.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double())
    step = Backpropagation(model, loss).training_step(optimizers(model.parameters()))
    before = copy.deepcopy(model.state_dict())
    parameters, state = start = step.start()
    kept = copy.deepcopy(start)
    cost = torch.tensor(0.0)
    for _ in range(4):
        cost, parameters, state = step(parameters, state, INPUTS, CLASSES)
    torch.testing.assert_close(cost, trained(expected, loss, optimizers(expected.parameters()), 4))
    named = {**dict(expected.named_parameters()), **dict(expected.named_buffers())}
    seen = {**{k: v for k, v in state["buffers"].items() if not k.startswith("loss.")}, **parameters}
    torch.testing.assert_close(seen, {name: x.detach() for name, x in named.items()})
    torch.testing.assert_close((start, model.state_dict()), (kept, before), rtol=0, atol=0)


def test_the_momentum_so_far_is_taken_along() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    with pytest.raises(ValueError, match="first gradient is not dampened"):
        Backpropagation(model, functional.cross_entropy).training_step(optimizer)
    trained(model, functional.cross_entropy, optimizer, 2)
    step = Backpropagation(model, functional.cross_entropy).training_step(optimizer)
    _, parameters, _ = step(*step.start(), INPUTS, CLASSES)
    trained(model, functional.cross_entropy, optimizer, 1)
    torch.testing.assert_close(parameters, {name: p.detach() for name, p in model.named_parameters()})


def test_exported_it_trains_in_a_process_without_this_package(tmp_path: Path) -> None:
    model = normalized()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = Backpropagation(model, functional.cross_entropy).training_step(optimizer)
    given = (*step.start(), INPUTS, CLASSES)
    exported = torch.export.export(step, given)
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert not any("backward" in name or "autograd" in name or "torch_backprop" in name for name in names)
    files = [tmp_path / name for name in ("step.pt2", "given.pt", "trained.pt")]
    torch.export.save(exported, files[0])
    torch.save(given, files[1])
    command = [sys.executable, "-c", ALONE, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    cost, parameters, state = torch.load(files[2])
    torch.testing.assert_close(cost, trained(model, functional.cross_entropy, optimizer, 5))
    torch.testing.assert_close(
        parameters, {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    )
    torch.testing.assert_close(state["buffers"]["1.running_mean"], model[1].running_mean)


def test_exported_for_batches_of_any_size() -> None:
    model = perceptron()
    step = Backpropagation(model, functional.cross_entropy).training_step(torch.optim.SGD(model.parameters()))
    start = step.start()
    batch = {0: torch.export.Dim("batch", min=2, max=1024)}
    fixed = [pytree.tree_map(lambda _: None, part) for part in start]
    exported = torch.export.export(step, (*start, INPUTS, CLASSES), dynamic_shapes=(*fixed, batch, batch))
    fewer = (*start, INPUTS[:4], CLASSES[:4])
    torch.testing.assert_close(exported.module()(*fewer), step(*fewer))


def test_the_example_trains_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert not take_away.main(["--epochs", "1"])
    words = capfd.readouterr().out
    assert "epoch 1: cost" in words
    assert float(words.split()[-3]) < 1e-12


def test_traced_it_is_a_graph_of_operators() -> None:
    model = perceptron()
    step = Backpropagation(model, functional.cross_entropy).training_step(torch.optim.SGD(model.parameters()))
    given = (*step.start(), INPUTS, CLASSES)
    torch.testing.assert_close(step.trace(*given)(*given), step(*given))


REFUSED: dict[str, tuple[Optimizers, str]] = {
    "adam": (lambda p: torch.optim.Adam(p), "Adam .* only gradient descent"),
    "clipping": (lambda p: MiniBatchGD(p, lr=0.1, batch_size=6, max_norm=1.0), "max_norm"),
    "schedule": (lambda p: StochasticGD(p, lr=0.1, schedule="optimal", weight_decay=1e-4), "lr changes"),
    "function": (lambda p: MiniBatchGD(p, lr=lambda _: 0.1, batch_size=6), "lr changes"),
}


@pytest.mark.parametrize(("optimizers", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_pure_function_is_refused(optimizers: Optimizers, words: str) -> None:
    model = perceptron()
    with pytest.raises(ValueError, match=words):
        Backpropagation(model, functional.cross_entropy).training_step(optimizers(model.parameters()))
