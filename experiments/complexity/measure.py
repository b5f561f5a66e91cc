"""Forward and backward passes of a model over its data: operations, seconds and bytes held between.

The seconds are the process's own on one thread, so that what else runs on the machine counts little; the
sizes are timed in turn, over and over, and the fastest of each counts.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import inf

import torch

from experiments.complexity import counts
from experiments.complexity.options import BASES, LINEAR, Options
from experiments.data.module import Data
from experiments.held import held_bytes
from experiments.model.learner import Learner
from experiments.study import Progress

# Runs of a size in a row, the first of which brings its data into the caches.
REPEATS = 3
# Sizes as multiples of the base's, but for depths, which are themselves.
WIDTHS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2, 2, 5 / 2, 3)
DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10)
BOTH = (
    *((1 / 2, 2), (3 / 4, 2), (1 / 2, 4), (1, 2), (5 / 4, 2), (3 / 4, 4), (1, 3)),
    *((1, 4), (3 / 2, 3), (5 / 4, 4), (2, 4)),
)
BATCHES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4)
# Of a data set, in batches of half the base's rows.
PARTS = (1, 2, 3, 4, 6, 8, 10, 12, 14)
clock = time.process_time


@dataclass(frozen=True)
class Size:
    """A model's width and depth, and the rows that it goes over in batches."""

    width: int
    depth: int
    batch: int
    rows: int


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
        expected: forward and backward operations and held bytes by theory's count, where it has one.
    """

    size: dict[str, int]
    parameters: int
    forward_flops: int
    backward_flops: int
    held: int
    forward: float
    backward: float
    expected: list[int] | None = None


def sizes(options: Options, sweep: str) -> list[Size]:
    """List the sizes of a sweep, the smallest first."""
    width, depth, batch = BASES[options.model.name]
    width, depth = options.model.width or width, options.model.depth or depth
    batch = options.batch_size or batch
    base = Size(width, depth, batch, batch)
    # The heads of a transformer divide its width.
    least = options.model.heads if options.model.name == "transformer" else 1

    def wide(factor: float) -> int:
        return max(1, round(factor * width / least)) * least

    found = {
        "width": [replace(base, width=wide(factor)) for factor in WIDTHS],
        "depth": [replace(base, depth=each) for each in DEPTHS],
        "parameters": [replace(base, width=wide(factor), depth=each) for factor, each in BOTH],
        "batch": [replace(base, batch=rows, rows=rows) for rows in (round(f * batch) for f in BATCHES)],
        "data": [replace(base, batch=batch // 2, rows=batch // 2 * number) for number in PARTS],
    }[sweep]
    once = list(dict.fromkeys(found))
    return once[::3] if options.fast else once


def measure(options: Options, sweep: str, progress: Progress) -> list[Timing]:
    """Time the sizes of a sweep, interleaved.

    Args:
        options: what is timed, and how often.
        sweep: what is varied.
        progress: told the share that is done, and the state in words.
    """
    torch.set_num_threads(1)
    data = Data(options.data.name, options.data.examples, options.data.context, options.seed)
    passes = [Pass(options, data, size) for size in sizes(options, sweep)]
    fastest = [(inf, inf)] * len(passes)
    for number in range(options.rounds):
        for place, each in enumerate(passes):
            times = [each.run() for _ in range(REPEATS)]
            forward, backward = zip(fastest[place], *times, strict=True)
            fastest[place] = min(forward), min(backward)
        progress((number + 1) / options.rounds, f"round {number + 1} of {options.rounds}")
    return [each.timing(*seconds) for each, seconds in zip(passes, fastest, strict=True)]


class Pass:
    """Forward and backward over all rows of a size."""

    def __init__(self, options: Options, data: Data, size: Size) -> None:
        self.size, train = size, data.parts["train"]
        # Of more rows than there are, the same come again: it is the number that takes time.
        rows = torch.arange(size.rows) % len(train.x)
        # Copies: what a batch holds must not be the storage of all rows.
        self.batches = [(train.x[part], train.y[part]) for part in rows.split(size.batch)]
        sizes = {**asdict(options.model), "width": size.width, "depth": size.depth}
        about = {"shape": data.shape, "outputs": data.outputs, "regression": data.regression}
        self.learner = Learner(**sizes, **about, seed=options.seed)
        self.parameters = list(self.learner.parameters())
        self.widths = widths(options, data, size)

    def run(self) -> tuple[float, float]:
        """Return the seconds that all forward and all backward passes took."""
        forward = backward = 0.0
        for x, y in self.batches:
            start = clock()
            cost = self.learner.mean_cost(x, y)
            middle = clock()
            torch.autograd.grad(cost, self.parameters)
            forward, backward = forward + middle - start, backward + clock() - middle
        return forward, backward

    def timing(self, forward: float, backward: float) -> Timing:
        """Return these seconds with the operations and bytes that belong to them."""
        x, y = self.batches[0]
        flops = [sum(each) for each in zip(*self._flops(), strict=True)]
        held = held_bytes(lambda: self.learner.mean_cost(x, y), self.parameters)
        number = sum(theta.numel() for theta in self.parameters)
        theory = self.widths
        expected = [*counts.flops(theory, self.size.rows), counts.held(theory, len(x))] if theory else None
        return Timing(vars(self.size), number, flops[0], flops[1], held, forward, backward, expected)

    def _flops(self) -> Iterator[tuple[int, int]]:
        for x, y in self.batches:
            with counts.counter() as forward:
                cost = self.learner.mean_cost(x, y)
            with counts.counter() as backward:
                torch.autograd.grad(cost, self.parameters)
            yield forward.get_total_flops(), backward.get_total_flops()


def widths(options: Options, data: Data, size: Size) -> list[int] | None:
    """Return the widths of all layers of a model whose operations and bytes theory counts, else None."""
    if options.model.name not in (*LINEAR, "perceptron") or options.model.cost != "likelihood":
        return None
    # A regression keeps other things for its cost.
    if data.regression:
        return None
    hidden = [] if options.model.name in LINEAR else [size.width] * size.depth
    return [math.prod(data.shape), *hidden, data.outputs]
