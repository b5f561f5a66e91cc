r"""The paths of the three variants, and the cost on a plane that holds them, or most of them.

A cost of two parameters is its own plane. Of a network's P parameters the plane is the one that holds most of
the paths' variance: through their mean, along the first two principal directions, the right singular vectors
of the points less their mean (Li et al. 2018, arXiv:1712.09913, section 7.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.theory.curvature import Surface
from experiments.theory.problem import Problem, digits_perceptron, two_slopes
from experiments.theory.study import Progress
from experiments.theory.variants import VARIANTS, descend, optimizer

PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "quadratic": two_slopes,
    "perceptron": digits_perceptron,
}
# The learning rates, as shares of 2 / lambda_max at the start: an update over fewer examples bears less.
SHARES: dict[str, dict[str, float]] = {
    "quadratic": {"batch": 0.45, "stochastic": 0.01, "mini-batch": 0.12},
    "perceptron": {"batch": 0.5, "stochastic": 0.005, "mini-batch": 0.1},
}
# How far the map reaches beyond the paths, in their own extent.
MARGIN = 0.12
# Of the map, its width over its height.
PROPORTION = 1.75


@dataclass(frozen=True)
class Path:
    """Where one variant went.

    Attributes:
        lr: the learning rate.
        examples: the examples seen at each point.
        across: the points' first coordinates on the plane.
        along: their second.
        updates: the updates made in all.
        cost: the cost at the end.
    """

    lr: float
    examples: list[int]
    across: list[float]
    along: list[float]
    updates: int
    cost: float


@dataclass(frozen=True)
class Plane:
    """The cost over a plane, and the paths on it.

    Attributes:
        problem: its name.
        labels: what the two coordinates are.
        held: the share of the paths' variance along each.
        across: the map's first coordinates, G of them.
        along: its second.
        costs: G rows, one for each of `along`, of G costs.
        paths: the variants'.
        rows: the examples of one epoch.
        epochs: the epochs that each variant had.
    """

    problem: str
    labels: list[str]
    held: list[float]
    across: list[float]
    along: list[float]
    costs: list[list[float]]
    paths: dict[str, Path]
    rows: int
    epochs: int


def measure(
    name: str, epochs: int, batch_size: int, points: int, grid: int, seed: int, progress: Progress
) -> Plane:
    """Descend on one of `PROBLEMS` by all variants, and map the cost around their paths.

    Args:
        name: the problem.
        epochs: passes over the data, for each variant.
        batch_size: of the mini-batches.
        points: the points of a path, about.
        grid: the points of the map, each way.
        seed: of the start and of the order of the examples.
        progress: told the share that is done, and the state in words.
    """
    problem = PROBLEMS[name](seed)
    descent = optimizer("batch", problem, 1.0, batch_size)
    bound = descent.largest_stable_lr(problem.cost, [(problem.x, problem.y)], iterations=1000, tol=1e-4)
    walks: dict[str, tuple[list[int], Tensor, int, float]] = {}
    for number, variant in enumerate(VARIANTS):
        progress(number / 4, variant)
        walks[variant] = walk(
            problem, variant, SHARES[name][variant] * bound, epochs, batch_size, points, seed
        )
    progress(0.75, "the map")
    origin, directions, held = plane(torch.cat([vectors for _, vectors, _, _ in walks.values()]))
    flat = {variant: (vectors - origin) @ directions.T for variant, (_, vectors, _, _) in walks.items()}
    across, along = frame(torch.cat(list(flat.values())), grid)
    surface = Surface(problem)
    with torch.no_grad():
        costs = [
            [surface.at(origin + a * directions[0] + b * directions[1]).item() for a in across] for b in along
        ]
    paths = {
        variant: Path(SHARES[name][variant] * bound, seen, *flat[variant].T.tolist(), updates, cost)
        for variant, (seen, _, updates, cost) in walks.items()
    }
    own = problem.model.state_dict()
    whole = sum(value.numel() for value in own.values()) == 2
    labels = ["first slope", "second slope"] if whole else ["first principal direction", "second"]
    return Plane(name, labels, held, across.tolist(), along.tolist(), costs, paths, len(problem.x), epochs)


def walk(
    problem: Problem, variant: str, lr: float, epochs: int, batch_size: int, points: int, seed: int
) -> tuple[list[int], Tensor, int, float]:
    """Return examples seen and parameters (points, P) along a path, the number of updates, and the last cost."""
    own = problem.fresh()
    surface, descent = Surface(own), optimizer(variant, own, lr, batch_size)
    examples = epochs * len(own.x)
    seen, vectors = [0], [surface.point()]
    # Of a path of many updates, as many as an eye can follow; of one of few updates, all.
    every = examples / points

    def note(_: object) -> None:
        if descent.examples_seen - seen[-1] >= min(every, examples - seen[-1]):
            seen.append(descent.examples_seen)
            vectors.append(surface.point())

    descent.register_update_hook(note)
    descend(own, descent, examples, seed)
    return seen, torch.stack(vectors), descent.updates, own.objective()


def plane(points: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    """Return a point of the plane (P,), two orthonormal directions (2, P), and the variance share of each.

    Of two parameters the plane is the whole, with the parameters themselves as coordinates.
    """
    mean = points.mean(dim=0)
    _, values, directions = torch.linalg.svd(points - mean, full_matrices=False)
    held = (values.square() / values.square().sum())[:2].tolist()
    if points.shape[1] == 2:
        return torch.zeros_like(mean), torch.eye(2).to(mean), held
    return mean, directions[:2], held


def frame(points: Tensor, grid: int) -> list[Tensor]:
    """Return evenly spaced coordinates, first and second, of a map around points (N, 2), to the same scale."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    extent = (1 + 2 * MARGIN) * (high - low)
    # Widened one way, so that what is perpendicular is so on the map.
    width = torch.maximum(extent, extent.flip(0) * extent.new_tensor([PROPORTION, 1 / PROPORTION]))
    ends = zip((low + high - width) / 2, (low + high + width) / 2, strict=True)
    return [torch.linspace(first.item(), last.item(), grid, dtype=points.dtype) for first, last in ends]


def levels(costs: Sequence[Sequence[float]], number: int) -> list[float]:
    """Return the costs to draw contours at, ever closer towards the lowest."""
    low, high = np.min(costs), np.max(costs)
    return [float(low + (high - low) * share) for share in np.geomspace(1e-3, 0.9, number)]
