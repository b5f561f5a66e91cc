r"""How far a mini-batch's gradient is from that of all examples. McCandlish et al. (2018), arXiv:1812.06162.

The mean g_b over b of N examples, drawn without replacement, has the variance (their eq. 2.6, for finite N)

    E |g_b - g|^2 = tr(Sigma) / b * (N - b) / (N - 1),        Sigma the covariance of one example's gradient

and at b = tr(Sigma) / |g|^2, the noise scale, it is as large as |g|^2 itself: the size up to which larger
mini-batches pay (their eq. 2.8).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from experiments.data.module import Part
from experiments.model.learner import ROWS, Learner

DRAWS = 48


@dataclass(frozen=True)
class Noise:
    """The relative variance of mini-batch gradients at one point of the descent.

    Attributes:
        where: The point, in words.
        examples: N.
        sizes: b.
        variances: E |g_b - g|^2 / |g|^2, for each b.
    """

    where: str
    examples: int
    sizes: list[int]
    variances: list[float]

    @property
    def scale(self) -> float:
        """The noise scale, tr(Sigma) / |g|^2: the median of what each size says it is."""
        return median(v * b / self._share(b) for b, v in zip(self.sizes, self.variances, strict=True))

    @property
    def slope(self) -> float:
        """The exponent of b in the variance, from sizes so small that N is as good as infinite."""
        pairs = [
            (math.log(b), math.log(v / self._share(b)))
            for b, v in zip(self.sizes, self.variances, strict=True)
            if v > 0
        ]
        x, y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        return sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)

    def expected(self, size: float) -> float:
        """Return the variance that the formula gives."""
        return self.scale / size * self._share(size)

    def _share(self, size: float) -> float:
        return (self.examples - size) / (self.examples - 1)


def measure(
    where: str, learner: Learner, part: Part, seed: int, fast: bool, progress: Callable[[float], None]
) -> Noise:
    """Measure the noise at the learner's present parameters, over random mini-batches of doubling sizes."""
    examples, draws = len(part.x), DRAWS // 4 if fast else DRAWS
    # Beyond half of them, a group without replacement is all but the whole.
    sizes = [2**i for i in range(int(math.log2(examples / 2)) + 1)]
    whole = _gradient(learner, part.x, part.y)
    square, variances = whole.square().sum().item(), []
    for number, size in enumerate(sizes):
        progress(number / len(sizes))
        groups = _groups(examples, size, draws, seed)
        squares = [(_gradient(learner, part.x[rows], part.y[rows]) - whole).square().sum() for rows in groups]
        variances.append(torch.stack(squares).mean().item() / square)
    return Noise(where, examples, sizes, variances)


def _groups(examples: int, size: int, draws: int, seed: int) -> Iterator[Tensor]:
    """Cut random orders into groups of one size, until there are enough."""
    generator, found = torch.Generator().manual_seed(seed), 0
    while found < draws:
        for rows in torch.randperm(examples, generator=generator).split(size):
            # What is left of an order is a smaller group, with more noise.
            if len(rows) == size and found < draws:
                found += 1
                yield rows


def _gradient(learner: Learner, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the mean cost, all parameters in a row."""
    # In pieces: the activations of all examples at once may not fit.
    total = torch.zeros(())
    for rows, targets in zip(x.split(ROWS), y.split(ROWS), strict=True):
        cost = learner.mean_cost(rows.to(learner.device), targets.to(learner.device))
        parts = torch.autograd.grad(cost, list(learner.parameters()))
        total = total + torch.cat([part.flatten() for part in parts]).cpu() * (len(rows) / len(x))
    return total
