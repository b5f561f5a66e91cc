"""What an update costs: the three optimizers against a plain loop with torch.optim.SGD, in the same groups.

All loops of a case take turns in one process on one thread, and the least processor time of each counts,
which says more than a mean on a machine that has other things to do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD

COLUMNS: tuple[str, ...] = ("model", "variant", "group", "loader", "form", "plain us", "ours us", "ratio")
CLASSES, LR = 10, 1e-3
# Features and hidden units; the largest has 10^6 parameters.
MODELS = {"linear": (64, 0), "perceptron": (64, 128), "perceptron 10^6": (784, 1258)}
Loop = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """A model, a variant, and how many rows a group and a loader batch have."""

    model: str
    variant: str
    group: int
    loader: int
    updates: int

    @property
    def name(self) -> str:
        """The name that ``--only`` looks at."""
        return f"{self.model} {self.variant} {self.group} {self.loader}"


def cases() -> list[Case]:
    """List what is measured; stochastic descent is fed by 64 rows, and by one as the plain loop is."""
    found = []
    for model in MODELS:
        found += [Case(model, "stochastic", 1, loader, 64) for loader in (64, 1)]
        found += [Case(model, "mini-batch", group, group, 4) for group in (32, 128)]
        found += [Case(model, "mini-batch", 32, 128, 4)]
        found += [Case(model, "batch", 256, loader, 1) for loader in (256, 64)]
    return found


def matching(only: str) -> list[Case]:
    """List the cases whose names fit a pattern."""
    return [case for case in cases() if fnmatchcase(case.name, only)]


def measure(case: Case, repetitions: int) -> list[dict[str, Any]]:
    """Return a row for each form of the protocol."""
    loops = {"plain": plain(case), "cost": ours(case, closure=False), "closure": ours(case, closure=True)}
    # Each in its turn, so that a slow moment of the machine hits them all.
    best = dict.fromkeys(loops, float("inf"))
    for _ in range(repetitions):
        for name, loop in loops.items():
            start = time.thread_time()
            loop()
            best[name] = min(best[name], time.thread_time() - start)
    micro = {name: seconds / case.updates * 1e6 for name, seconds in best.items()}
    place = {"model": case.model, "variant": case.variant, "group": case.group, "loader": case.loader}
    return [
        {
            **place,
            "form": form,
            "plain us": round(micro["plain"], 1),
            "ours us": round(micro[form], 1),
            "ratio": round(micro[form] / micro["plain"], 3),
        }
        for form in ("cost", "closure")
    ]


def make(case: Case) -> tuple[nn.Module, Tensor, Tensor]:
    """Make the model and the rows of some updates, the same each time."""
    features, hidden = MODELS[case.model]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = nn.Linear(features, CLASSES)
        if hidden:
            model = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES))
    count = case.group * case.updates
    x = torch.randn(count, features, generator=generator)
    return model, x, torch.randint(CLASSES, (count,), generator=generator)


def plain(case: Case) -> Loop:
    """Return the loop that everybody writes: its loader batches are the groups, or it accumulates them."""
    model, x, y = make(case)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    size = min(case.group, case.loader) if case.variant == "batch" else case.group

    def loop() -> None:
        seen = 0
        for rows, classes in zip(x.split(size), y.split(size), strict=True):
            if seen % case.group == 0:
                optimizer.zero_grad()
            cost = cross_entropy(model(rows), classes)
            (cost if size == case.group else cost * (size / case.group)).backward()
            seen += size
            if seen % case.group == 0:
                optimizer.step()

    return loop


def ours(case: Case, closure: bool) -> Loop:
    """Return the loop with this package's optimizer, in either form of its protocol."""
    model, x, y = make(case)
    optimizer: Any = {
        "stochastic": lambda: StochasticGD(model.parameters(), LR),
        "mini-batch": lambda: MiniBatchGD(model.parameters(), LR, case.group),
        "batch": lambda: BatchGD(model.parameters(), LR),
    }[case.variant]()

    def cost(rows: Tensor, classes: Tensor) -> Tensor:
        return cross_entropy(model(rows), classes)

    def loop() -> None:
        for batch in optimizer.epoch(zip(x.split(case.loader), y.split(case.loader), strict=True)):

            def call(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
                value = cost(*optimizer.take(*batch))
                value.backward()
                return value

            optimizer.step(call) if closure else optimizer.step(cost, *batch)

    return loop
