"""The training step as a pure function of tensors: exported, it trains where this package is not."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_algorithm import CLASSES, INPUTS, perceptron
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import torch_backprop
from experiments import cli
from torch_backprop import Backpropagation, functional
from torch_backprop.optim import MiniBatchGD, StochasticGD

Optimizers = Callable[[Any], Any]

OPTIMIZERS: dict[str, Optimizers] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "maximize": lambda p: MiniBatchGD(p, lr=0.1, batch_size=6, momentum=0.9, maximize=True),
}


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


def test_saved_and_loaded_it_trains_as_the_model_does() -> None:
    model = normalized()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = Backpropagation(model, functional.cross_entropy).training_step(optimizer)
    parameters, state = step.start()
    exported = torch.export.export(step, (parameters, state, INPUTS, CLASSES))
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert not any("backward" in name or "autograd" in name or "torch_backprop" in name for name in names)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded, cost = torch.export.load(file).module(), torch.tensor(0.0)
    for _ in range(5):
        cost, parameters, state = loaded(parameters, state, INPUTS, CLASSES)
    torch.testing.assert_close(cost, trained(model, functional.cross_entropy, optimizer, 5))
    learned = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(parameters, learned)
    torch.testing.assert_close(state["buffers"]["1.running_mean"], model[1].running_mean)


def test_rates_are_changed_between_the_steps_of_one_export() -> None:
    model = perceptron()
    groups = [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[2].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    step = Backpropagation(model, functional.cross_entropy).training_step(optimizer)
    parameters, state = step.start()
    exported = torch.export.export(step, (parameters, state, INPUTS, CLASSES)).module()
    for factor in (1.0, 0.5, 3.0):
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] *= factor
            state["lr"][str(number)].fill_(group["lr"])
        _, parameters, state = exported(parameters, state, INPUTS, CLASSES)
        trained(model, functional.cross_entropy, optimizer, 1)
        torch.testing.assert_close(parameters, {name: p.detach() for name, p in model.named_parameters()})


def test_exported_for_batches_of_any_size() -> None:
    model = perceptron()
    step = Backpropagation(model, functional.cross_entropy).training_step(torch.optim.SGD(model.parameters()))
    start = step.start()
    batch = {0: torch.export.Dim("batch", min=2, max=1024)}
    fixed = [pytree.tree_map(lambda _: None, part) for part in start]
    exported = torch.export.export(step, (*start, INPUTS, CLASSES), dynamic_shapes=(*fixed, batch, batch))
    fewer = (*start, INPUTS[:4], CLASSES[:4])
    torch.testing.assert_close(exported.module()(*fewer), step(*fewer))


def test_the_example_trains_elsewhere(tmp_path: Path, signals: None) -> None:
    assert cli.main(["take_away", "--epochs", "2", "--out", str(tmp_path)]) == 0
    (run,) = (tmp_path / "take_away").iterdir()
    found = json.loads((run / "state.json").read_text())["pieces"]["training"]
    assert found["farthest"] < 1e-12
    assert found["there"] == pytest.approx(found["here"], rel=1e-12)
    assert found["there"][1] < found["there"][0]
    assert {"step.pt2", "metrics.csv", "report.html", "events"} <= {path.name for path in run.iterdir()}


def test_traced_it_is_a_graph_of_operators() -> None:
    model = perceptron()
    step = Backpropagation(model, functional.cross_entropy).training_step(torch.optim.SGD(model.parameters()))
    given = (*step.start(), INPUTS, CLASSES)
    torch.testing.assert_close(step.trace(*given)(*given), step(*given))


def test_the_cost_is_a_sum() -> None:
    model = perceptron()
    optimizer = MiniBatchGD(model.parameters(), lr=0.1, batch_size=6, reduction="sum")
    loss = torch_backprop.nn.CrossEntropyLoss(reduction="sum")
    step = Backpropagation(model, loss).training_step(optimizer)
    _, parameters, _ = step(*step.start(), INPUTS, CLASSES)
    trained(model, loss, optimizer, 1)
    torch.testing.assert_close(parameters, dict(model.named_parameters()))


class Scaled(nn.Linear):
    """Outputs times one number that is learned, a parameter of no dimensions."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, input: Tensor) -> Tensor:
        return self.scale * functional.linear(input, self.weight, self.bias)


def test_a_parameter_of_no_dimensions_keeps_its_dtype() -> None:
    model = Scaled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = Backpropagation(model, functional.cross_entropy).training_step(optimizer)
    _, parameters, _ = step(*step.start(), INPUTS.float(), CLASSES)
    functional.cross_entropy(model(INPUTS.float()), CLASSES).backward()
    optimizer.step()
    torch.testing.assert_close(parameters, dict(model.named_parameters()))


class Signs(torch.optim.SGD):
    """Is derived from SGD, and makes another step."""

    def step(self, closure: Any = None) -> None:
        raise AssertionError


def hooked(register: str, optimizer: Any) -> Any:
    getattr(optimizer, register)(lambda *_: None)
    return optimizer


REFUSED: dict[str, tuple[Optimizers, str]] = {
    "adam": (lambda p: torch.optim.Adam(p), "Adam .* only gradient descent"),
    "own step": (Signs, "Signs .* only gradient descent"),
    "step hook": (lambda p: hooked("register_step_post_hook", torch.optim.SGD(p)), "hooks"),
    "our step hook": (lambda p: hooked("register_step_pre_hook", StochasticGD(p, 0.1)), "hooks on steps"),
    "update hook": (lambda p: hooked("register_update_hook", StochasticGD(p, 0.1)), "hooks"),
    "clipping": (
        lambda p: MiniBatchGD(p, lr=0.1, batch_size=6, max_norm=1.0),
        "pure function.*max_norm",
    ),
    "schedule": (lambda p: StochasticGD(p, lr=0.1, schedule="optimal", weight_decay=1e-4), "lr changes"),
    "function": (lambda p: MiniBatchGD(p, lr=lambda _: 0.1, batch_size=6), "lr changes"),
}


@pytest.mark.parametrize(("optimizers", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_pure_function_is_refused(optimizers: Optimizers, words: str) -> None:
    model = perceptron()
    with pytest.raises(ValueError, match=words):
        Backpropagation(model, functional.cross_entropy).training_step(optimizers(model.parameters()))
