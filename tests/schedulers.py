"""Every scheduler of torch.optim.lr_scheduler, stepped after each update: of ours, and of torch.optim.SGD."""

import itertools
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler

from tests.sequential_sgd import LR, make_model, sequential
from torch_backprop.optim import Descent


class Plateau(lr_scheduler.ReduceLROnPlateau):
    """Steps as the others do, with a cost that rises with the updates."""

    def __init__(self, optimizer):
        super().__init__(optimizer, patience=2, factor=0.7)
        self.costs = itertools.count()

    def step(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step(float(next(self.costs)))


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.02, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.02, 200),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "ReduceLROnPlateau": Plateau,
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
}


def schedule_updates(name: str, optimizer: Descent) -> None:
    """Have the scheduler stepped after every update of `optimizer`."""
    schedule = SCHEDULERS[name](optimizer)
    optimizer.register_update_hook(lambda _: schedule.step())


@cache
def scheduled(variant: str, name: str, as_lr: Any = float) -> tuple[list[Tensor], list[float]]:
    """Return the reference with momentum 0.9, and its settings after the last update."""
    twin = make_model()
    sgd = torch.optim.SGD(twin.parameters(), as_lr(LR), momentum=0.9)
    schedule: Any = SCHEDULERS[name](sgd)
    return sequential(variant, twin, sgd, after=schedule.step), rates_of(sgd)


def rates_of(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return what a scheduler may set."""
    return [float(optimizer.param_groups[0][key]) for key in ("lr", "momentum")]
