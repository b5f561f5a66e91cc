"""Real architectures: converted, they train as they did, and exchange their state with the built-in ones."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES, Architecture
from torch import Tensor

import torch_backprop

each = pytest.mark.parametrize("architecture", ARCHITECTURES)


def built(architecture: type[Architecture], converted: bool) -> Architecture:
    torch.manual_seed(0)
    model = architecture().double()
    if converted:
        assert torch_backprop.convert(model).left_alone == {}
    return model


def train(model: Architecture, steps: int = 10) -> list[Tensor]:
    """The costs of some updates on batches drawn from a fixed seed."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(1)
    costs = []
    for _ in range(steps):
        optimizer.zero_grad()
        costs.append(model.cost())
        costs[-1].backward()
        optimizer.step()
    return [cost.detach() for cost in costs]


def assert_near(ours: dict[str, Tensor], builtin: dict[str, Tensor]) -> None:
    assert ours.keys() == builtin.keys()
    for name, expected in builtin.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=0, atol=1e-9, msg=lambda words, name=name: f"{name}: {words}"
        )


@each
def test_ten_updates_stay_together(architecture: type[Architecture]) -> None:
    ours, builtin = built(architecture, True), built(architecture, False)
    torch.testing.assert_close(train(ours), train(builtin), rtol=0, atol=1e-9)
    assert_near(ours.state_dict(), builtin.state_dict())


@each
def test_states_are_exchanged_both_ways(architecture: type[Architecture]) -> None:
    ours, builtin = built(architecture, True), built(architecture, False)
    train(ours, 2)
    builtin.load_state_dict(ours.state_dict())
    assert_near(ours.eval().state_dict(), builtin.eval().state_dict())
    torch.testing.assert_close(train(ours, 1), train(builtin, 1), rtol=0, atol=1e-9)
    train(builtin, 2)
    ours.load_state_dict(builtin.state_dict())
    torch.testing.assert_close(train(ours, 1), train(builtin, 1), rtol=0, atol=1e-9)


@each
def test_patched_functions_train_the_same(architecture: type[Architecture]) -> None:
    ours, builtin = built(architecture, False), built(architecture, False)
    with torch_backprop.patched():
        seen = train(ours, 3)
    torch.testing.assert_close(seen, train(builtin, 3), rtol=0, atol=1e-9)
