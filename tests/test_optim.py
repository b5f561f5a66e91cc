"""Each update of the three optimizers equals sequential torch.optim.SGD, however the loader cuts the data."""

import math

import pytest
import torch
from torch import Tensor, nn

from torch_backprop.optim import BatchGD, Descent, MiniBatchGD, StochasticGD

torch.set_num_threads(1)

N = 67
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
LR = 0.01


def make_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def make_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(N, 5, generator=generator).double(), torch.randint(3, (N,), generator=generator)


def make_optimizer(variant: str, params, lr=LR, **settings) -> Descent:
    if variant == "minibatch":
        return MiniBatchGD(params, lr, GROUP_SIZES[variant], **settings)
    return {"batch": BatchGD, "stochastic": StochasticGD}[variant](params, lr, **settings)


def snapshot(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def record(optimizer: Descent, model: nn.Module) -> list[Tensor]:
    trajectory: list[Tensor] = []
    optimizer.register_update_hook(lambda _: trajectory.append(snapshot(model)))
    return trajectory


def reference(variant: str, epochs: int = 2, scheduler=None, max_norm=math.inf, **settings) -> list[Tensor]:
    """The trajectory of torch.optim.SGD that is fed whole groups."""
    model, (inputs, targets) = make_model(), make_data()
    optimizer = torch.optim.SGD(model.parameters(), LR, **settings)
    schedule = scheduler and scheduler(optimizer)
    trajectory = []
    for _ in range(epochs):
        size = GROUP_SIZES[variant]
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            trajectory.append(snapshot(model))
            if schedule:
                schedule.step()
    return trajectory


def batches(size: int) -> list[tuple[Tensor, Tensor]]:
    inputs, targets = make_data()
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def descend(optimizer: Descent, model: nn.Module, size: int, form: str, epochs: int = 2) -> None:
    def cost(x, y):
        return nn.functional.cross_entropy(model(x), y)

    for _ in range(epochs):
        for inputs, targets in optimizer.epoch(batches(size)):
            if form == "cost":
                optimizer.step(cost, inputs, targets)
                continue

            def closure(inputs=inputs, targets=targets):
                loss = cost(*optimizer.take(inputs, targets))
                loss.backward()
                return loss

            optimizer.step(closure)


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    assert len(found) == len(expected)
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("form", ["cost", "closure"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("variant", GROUP_SIZES)
def test_every_update_equals_sequential_sgd(variant, settings, form):
    expected = reference(variant, **SETTINGS[settings])
    for size in LOADERS:
        model = make_model()
        optimizer = make_optimizer(variant, model.parameters(), **SETTINGS[settings])
        trajectory = record(optimizer, model)
        descend(optimizer, model, size, form)
        assert difference(trajectory, expected) < 1e-12
        assert (optimizer.updates, optimizer.examples_seen) == (len(expected), 2 * N)


class MeanOfMeans(MiniBatchGD):
    """A planted fault: slices of a group count alike, whatever their number of rows."""

    def _absorb(self, gradients, cursor):
        self._group.add(gradients, 1.0, 1.0, cursor.examples)
        if self._group.examples == self.group_size:
            self._close()


def test_mean_of_means_is_found():
    model = make_model()
    optimizer = MeanOfMeans(model.parameters(), LR, 8)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 11, "cost")
    assert difference(trajectory, reference("minibatch")) > 1e-6
