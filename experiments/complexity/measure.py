r"""Forward and backward passes of a perceptron over the digits: operations, seconds and bytes held between.

A layer n -> m over a batch of B rows is B n m multiplications and additions forward (y = x w'), and twice as
many backward (grad w = grad y' x and grad x = grad y w), of which the first layer does without grad x.
The bytes held for the backward pass are the input, each hidden layer's output once, and what the cost keeps:

    B (4 features + 4 depth width + 4 classes + 8) bytes, the last two for the scores and the integer targets

The seconds are the process's own on one thread, so that what else runs on the machine counts little; the
sizes are timed in turn, over and over, and the fastest of each counts.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn import Sequential
from torch.utils.flop_counter import FlopCounterMode

from experiments.held import held_bytes
from experiments.study import Progress
from experiments.theory.problem import seeded, table
from torch_backprop import nn

# Runs of a size in a row, the first of which brings its data into the caches.
REPEATS = 3
CLASSES = 10
clock = time.process_time


@dataclass(frozen=True)
class Size:
    """A perceptron with `depth` hidden layers of `width`, over `rows` rows in batches of `batch`."""

    width: int = 256
    depth: int = 3
    batch: int = 256
    rows: int = 256

    @classmethod
    def with_batch(cls, batch: int) -> "Size":
        """Return the size whose one batch has so many rows."""
        return cls(batch=batch, rows=batch)


@dataclass(frozen=True)
class Timing:
    """What one pass over the rows of a size costs.

    Attributes:
        size: the fields of a `Size`.
        parameters: the model's number of parameters.
        forward_flops: floating-point operations of the forward pass: multiplications and additions.
        backward_flops: those of the backward pass.
        held: bytes held between the two, for one batch.
        forward: seconds.
        backward: seconds.
    """

    size: dict[str, int]
    parameters: int
    forward_flops: int
    backward_flops: int
    held: int
    forward: float
    backward: float


SWEEPS: dict[str, tuple[Size, ...]] = {
    "width": tuple(Size(width=n) for n in (16, 32, 64, 96, 128, 192, 256, 320, 384, 512, 640, 768)),
    "depth": tuple(Size(depth=n) for n in (1, 2, 3, 4, 5, 6, 8, 10)),
    "parameters": tuple(
        Size(width=width, depth=depth)
        for width, depth in ((192, 2), (192, 4), (256, 3), (256, 4), (384, 3), (320, 4), (512, 3), (512, 4))
    ),
    "batch": tuple(map(Size.with_batch, (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024))),
    "data": tuple(Size(batch=128, rows=128 * n) for n in (1, 2, 3, 4, 6, 8, 10, 12, 14)),
}
FAST = {name: sizes[::3] for name, sizes in SWEEPS.items()}


def measure(sizes: Sequence[Size], rounds: int, seed: int, progress: Progress) -> list[Timing]:
    """Time some sizes, interleaved.

    Args:
        sizes: what to time.
        rounds: how often to go through all of them.
        seed: of the initial parameters.
        progress: told the share that is done, and the state in words.
    """
    torch.set_num_threads(1)
    passes = [Pass(size, seed) for size in sizes]
    fastest = [(inf, inf)] * len(sizes)
    for number in range(rounds):
        for place, each in enumerate(passes):
            times = [each.run() for _ in range(REPEATS)]
            forward, backward = zip(fastest[place], *times, strict=True)
            fastest[place] = min(forward), min(backward)
        progress((number + 1) / rounds, f"round {number + 1} of {rounds}")
    return [each.timing(*seconds) for each, seconds in zip(passes, fastest, strict=True)]


class Pass:
    """Forward and backward over all rows of a size."""

    def __init__(self, size: Size, seed: int = 0) -> None:
        self.size = size
        x, y = table("digits", torch.float32, size.rows)
        # Copies: what a batch holds must not be the storage of all rows.
        parts = zip(x.split(size.batch), y.split(size.batch), strict=True)
        self.batches = [(inputs.clone(), targets.clone()) for inputs, targets in parts]
        self.model = seeded(lambda: perceptron(x.shape[1], size), seed).float()
        self.parameters = list(self.model.parameters())
        self.loss = nn.CrossEntropyLoss()

    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cost of a batch."""
        return self.loss(self.model(x), y)

    def run(self) -> tuple[float, float]:
        """Return the seconds that all forward and all backward passes took."""
        forward = backward = 0.0
        for x, y in self.batches:
            start = clock()
            cost = self.cost(x, y)
            middle = clock()
            torch.autograd.grad(cost, self.parameters)
            forward, backward = forward + middle - start, backward + clock() - middle
        return forward, backward

    def timing(self, forward: float, backward: float) -> Timing:
        """Return these seconds with the operations and bytes that belong to them."""
        x, y = self.batches[0]
        flops = [sum(counts) for counts in zip(*self._flops(), strict=True)]
        held = held_bytes(lambda: self.cost(x, y), self.parameters)
        number = sum(theta.numel() for theta in self.parameters)
        return Timing(vars(self.size), number, flops[0], flops[1], held, forward, backward)

    def _flops(self) -> Iterator[tuple[int, int]]:
        for x, y in self.batches:
            with FlopCounterMode(display=False) as forward:
                cost = self.cost(x, y)
            with FlopCounterMode(display=False) as backward:
                torch.autograd.grad(cost, self.parameters)
            yield forward.get_total_flops(), backward.get_total_flops()


def perceptron(features: int, size: Size) -> torch.nn.Module:
    """Build the model of a size."""
    # ReLU, whose time beside the matrix products' is small.
    hidden = [
        layer
        for number in range(size.depth)
        for layer in (nn.Linear(size.width if number else features, size.width), nn.ReLU())
    ]
    return Sequential(*hidden, nn.Linear(size.width, CLASSES))
