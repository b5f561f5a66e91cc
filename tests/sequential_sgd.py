"""The reference of the optimizers' tests: torch.optim.SGD in sequence, fed whole groups."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_backprop.optim import BatchGD, Descent, MiniBatchGD, StochasticGD

torch.set_num_threads(1)

# A prime, so that no loader divides it; and a stable rate, for an unstable one magnifies rounding as well.
N = 67
LR = 0.01
LOADERS = (1, 11, 29, 64, N)
GROUP_SIZES = {"batch": N, "stochastic": 1, "minibatch": 8}
SETTINGS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.5, "dampening": 0.3},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "weight_decay": {"weight_decay": 0.1},
    "maximize": {"maximize": True, "weight_decay": 0.1},
    "all": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
}


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def make_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(N, 5, generator=generator).double(), torch.randint(3, (N,), generator=generator)


def batches(size: int) -> Iterator[tuple[Tensor, Tensor]]:
    inputs, targets = make_data()
    return zip(inputs.split(size), targets.split(size), strict=True)


def make_optimizer(variant: str, params: Any, lr: Any = LR, **settings: Any) -> Descent:
    if variant == "minibatch":
        return MiniBatchGD(params, lr, GROUP_SIZES[variant], **settings)
    return {"batch": BatchGD, "stochastic": StochasticGD}[variant](params, lr, **settings)


def snapshot(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def record(optimizer: Descent, model: nn.Module) -> list[Tensor]:
    trajectory: list[Tensor] = []
    optimizer.register_update_hook(lambda _: trajectory.append(snapshot(model)))
    return trajectory


def sequential(
    variant: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int = 2,
    clip: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> list[Tensor]:
    """Return the parameters after each update of `optimizer`, which sees one group at a time."""
    trajectory = []
    for _ in range(epochs):
        for x, y in batches(GROUP_SIZES[variant]):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            clip()
            optimizer.step()
            trajectory.append(snapshot(model))
            after()
    return trajectory


def reference(variant: str, epochs: int = 2, **settings) -> list[Tensor]:
    model = make_model()
    return sequential(variant, model, torch.optim.SGD(model.parameters(), LR, **settings), epochs)


def descend(optimizer: Descent, model: nn.Module, size: int, form: str = "cost", epochs: int = 2) -> None:
    """Run `optimizer` over loader batches of `size` rows, by ``step(cost, *rows)`` or by closures."""

    def cost(x, y):
        return cross_entropy(model(x), y)

    for _ in range(epochs):
        for inputs, targets in optimizer.epoch(batches(size)):

            def closure(rows=(inputs, targets)):
                loss = cost(*optimizer.take(*rows))
                loss.backward()
                return loss

            optimizer.step(closure) if form == "closure" else optimizer.step(cost, inputs, targets)


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    assert len(found) == len(expected)
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
