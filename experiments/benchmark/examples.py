"""One example at a time: the ways to descend on digits with groups of one, in microseconds per example.

All ways of a model take turns in one process on one thread, and the least processor time of each counts. What
comes before the first example, such as compiling, is not in it, and is said apart.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import sklearn.datasets
import torch
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from experiments.benchmark import floor
from torch_backprop import convert
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import StochasticGD
from torch_backprop.optim.descend import PATHS

COLUMNS: tuple[str, ...] = ("model", "way", "us", "ratio", "floors", "seconds before")
LR = 1e-3
HIDDEN = 128
FLOOR = "raw loops in C"
Way = Callable[[int], object]
"""Descends over so many examples."""


def models() -> dict[str, Callable[[], torch.nn.Module]]:
    """Return what makes each model, of torch.nn's layers."""
    nn = torch.nn
    return {
        "linear": lambda: nn.Linear(64, 10),
        "perceptron": lambda: nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)),
        "convolution": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(72, 10),
        ),
    }


def matching(only: str) -> list[str]:
    """List the models whose names fit a pattern."""
    return [name for name in models() if fnmatchcase(name, only)]


@dataclass
class Digits:
    """The 1,797 digits: inputs x from 0 to 1 of shape (N, 64), and classes t."""

    x: Tensor
    t: Tensor

    @classmethod
    def load(cls) -> "Digits":
        """Read them."""
        x, t = sklearn.datasets.load_digits(return_X_y=True)
        return cls(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(t))


def measure(name: str, repetitions: int) -> list[dict[str, Any]]:
    """Return a row for each way to descend with a model."""
    best: dict[str, float] = {}
    before: dict[str, float] = {}
    ways = dict(_ways(name, Digits.load()))
    for way, (descend, _) in list(ways.items()):
        start = time.perf_counter()
        try:
            descend(8)
        except ValueError as error:
            # A path that is not for this model has no row.
            if "is not possible" not in str(error):
                raise
            del ways[way]
        before[way] = time.perf_counter() - start
    # Each in its turn, so that a slow moment of the machine hits them all.
    for _ in range(repetitions):
        for way, (descend, examples) in ways.items():
            start = time.thread_time()
            descend(examples)
            micro = (time.thread_time() - start) / examples * 1e6
            best[way] = min(best.get(way, micro), micro)
    bottom = best.get(FLOOR)
    return [
        {
            "model": name,
            "way": way,
            "us": round(micro, 3),
            "ratio": round(best["plain loop"] / micro, 2),
            "floors": round(micro / bottom, 2) if bottom else "",
            "seconds before": f"{before[way]:.2g}" if way.endswith(("compiled", "unrolled")) else "",
        }
        for way, micro in best.items()
    ]


def _ways(name: str, digits: Digits) -> Any:
    """Yield the name of each way, and the way with the number of examples that suits its pace."""
    make = models()[name]
    torch.manual_seed(0)
    few, all_ = 200, len(digits.t)
    yield "plain loop", (plain(make(), digits), few)
    yield "DataLoader of batch 1", (loader(make(), digits), few)
    yield "torch.func.grad", (functional(make(), digits), few)
    yield "scikit-learn", (scikit(name, digits), all_ if name == "linear" else few)
    for path in reversed(PATHS):
        yield f"descend, {path}", (ours(make(), digits, path), few if path in ("autograd", "tape") else all_)
    if not floor.why_not() and name != "convolution":
        yield (
            FLOOR,
            (floor.descent(HIDDEN if name == "perceptron" else 0, digits.x, digits.t, LR), all_),
        )


def plain(model: torch.nn.Module, digits: Digits) -> Way:
    """Return the loop that everybody writes."""
    optimizer = torch.optim.SGD(model.parameters(), LR)

    def descend(examples: int) -> None:
        for i in range(examples):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(digits.x[i : i + 1]), digits.t[i : i + 1]).backward()
            optimizer.step()

    return descend


def loader(model: torch.nn.Module, digits: Digits) -> Way:
    """Return the same loop, served by a DataLoader."""
    optimizer = torch.optim.SGD(model.parameters(), LR)

    def descend(examples: int) -> None:
        for x, t in DataLoader(TensorDataset(digits.x[:examples], digits.t[:examples]), batch_size=1):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), t).backward()
            optimizer.step()

    return descend


def functional(model: torch.nn.Module, digits: Digits) -> Way:
    """Return a loop of torch.func's gradients."""
    parameters = {name: theta.detach() for name, theta in model.named_parameters()}

    def cost(parameters: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(torch.func.functional_call(model, parameters, (x,)), t)

    gradient = torch.func.grad(cost)

    def descend(examples: int) -> None:
        for i in range(examples):
            gradients = gradient(parameters, digits.x[i : i + 1], digits.t[i : i + 1])
            for name, theta in parameters.items():
                theta.sub_(gradients[name], alpha=LR)

    return descend


def scikit(name: str, digits: Digits) -> Way:
    """Return scikit-learn's partial_fit: SGDClassifier for the linear model, else MLPClassifier."""
    x, t = digits.x.numpy(), digits.t.numpy()
    classes = list(range(10))
    model: Any
    if name == "linear":
        model = SGDClassifier(loss="log_loss", alpha=0, learning_rate="constant", eta0=LR, shuffle=False)
    else:
        # Its annotation says str, for the default "auto".
        size: Any = 1
        model = MLPClassifier(
            (HIDDEN,),
            "tanh",
            solver="sgd",
            alpha=0,
            batch_size=size,
            learning_rate_init=LR,
            momentum=0,
            shuffle=False,
        )
    return lambda examples: model.partial_fit(x[:examples], t[:examples], classes=classes)


def ours(model: torch.nn.Module, digits: Digits, path: str) -> Way:
    """Return this package's descent by a path."""
    convert(model)
    optimizer = StochasticGD(model.parameters(), LR)

    def descend(examples: int) -> None:
        x, t = digits.x[:examples], digits.t[:examples]
        optimizer.descend(model, cross_entropy, x, t, path=path, quiet=True)

    return descend
