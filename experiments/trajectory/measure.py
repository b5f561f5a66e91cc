r"""The paths of the three variants, and the cost on a plane that holds them, or most of them.

A cost of two parameters is its own plane. Of a network's P parameters the plane is the one that holds most of
the paths' variance: through their mean, along the first two principal directions, the right singular vectors
of the points less their mean (Li et al. 2018, arXiv:1712.09913, section 7.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.study import Progress
from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import Problem, digits_perceptron, two_slopes
from experiments.theory.variants import VARIANTS, descend, optimizer
from torch_backprop.optim import BatchGD

PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "quadratic": two_slopes,
    "perceptron": digits_perceptron,
}
# The learning rates, as shares of 2 / lambda_max at the start: an update over fewer examples bears less.
SHARES: dict[str, dict[str, float]] = {
    "quadratic": {"batch": 0.45, "stochastic": 0.01, "mini-batch": 0.12},
    "perceptron": {"batch": 0.5, "stochastic": 0.02, "mini-batch": 0.2},
}
# How far the map reaches beyond the paths, in their own extent.
MARGIN = 0.12
# Of the map, its width over its height.
PROPORTION = 1.75


LABELS = {
    "quadratic": ["slope along s1, total serum cholesterol", "slope along s2, low-density lipoproteins"],
    "perceptron": ["first principal direction of the paths", "second principal direction"],
}


@dataclass(frozen=True)
class Extent:
    """How far the descents go, and how finely they are drawn.

    Attributes:
        epochs: passes over the data, for each variant.
        batch_size: of the mini-batches.
        points: the points of a path, about.
        grid: the points of the map, each way.
        seed: of the start and of the order of the examples.
    """

    epochs: int
    batch_size: int
    points: int
    grid: int
    seed: int


@dataclass(frozen=True)
class Path:
    """Where one variant went.

    Attributes:
        lr: the learning rate.
        examples: the examples seen at each point.
        across: the points' first coordinates on the plane.
        along: their second.
        costs: the cost at each.
        updates: the updates made in all.
        detour: the length of the way, update by update, over that of the straight line to its end.
    """

    lr: float
    examples: list[int]
    across: list[float]
    along: list[float]
    costs: list[float]
    updates: int
    detour: float


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
        floor: the least cost there is, where that is known, else 0.
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
    floor: float
    rows: int
    epochs: int

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Plane":
        """Return the plane that ``asdict`` made this of."""
        return cls(**{**kept, "paths": {name: Path(**path) for name, path in kept["paths"].items()}})


@dataclass(frozen=True)
class Walk:
    """One variant's descent: its parameters (points, P), and what a `Path` says of it."""

    lr: float
    examples: list[int]
    vectors: Tensor
    costs: list[float]
    updates: int
    length: float

    def on(self, origin: Tensor, directions: Tensor) -> Path:
        """Return the path on a plane."""
        across, along = ((self.vectors - origin) @ directions.T).T.tolist()
        detour = self.length / (self.vectors[-1] - self.vectors[0]).norm().item()
        return Path(self.lr, self.examples, across, along, self.costs, self.updates, detour)


def measure(name: str, extent: Extent, progress: Progress) -> Plane:
    """Descend on one of `PROBLEMS` by all variants, and map the cost around their paths.

    Args:
        name: the problem.
        extent: how far, and how finely.
        progress: told the share that is done, and the state in words.
    """
    problem = PROBLEMS[name](extent.seed)
    descent = BatchGD(problem.model.parameters(), lr=1.0)
    bound = descent.largest_stable_lr(problem.cost, [(problem.x, problem.y)], iterations=1000, tol=1e-4)
    walks: dict[str, Walk] = {}
    for number, variant in enumerate(VARIANTS):
        progress(number / 4, variant)
        walks[variant] = walk(problem, variant, SHARES[name][variant] * bound, extent)
    progress(0.75, "the map")
    origin, directions, held = plane(torch.cat([each.vectors for each in walks.values()]))
    paths = {variant: each.on(origin, directions) for variant, each in walks.items()}
    across, along = frame(list(paths.values()), extent.grid)
    surface = Surface(problem)
    with torch.no_grad():
        costs = [
            [surface.at(origin + a * directions[0] + b * directions[1]).item() for a in across] for b in along
        ]
    lowest = minimum(surface, surface.point()) if name == "quadratic" else None
    floor = 0.0 if lowest is None else surface.at(lowest).item()
    return Plane(name, LABELS[name], held, across, along, costs, paths, floor, len(problem.x), extent.epochs)


def walk(problem: Problem, variant: str, lr: float, extent: Extent) -> Walk:
    """Descend by one variant, and note the parameters on the way."""
    own = problem.fresh()
    surface, descent = Surface(own), optimizer(variant, own, lr, extent.batch_size)
    examples = extent.epochs * len(own.x)
    here, length = surface.point(), 0.0
    seen, vectors, costs = [0], [here], [own.objective()]
    # Of a path of many updates, as many as an eye can follow; of one of few updates, all.
    every = examples / extent.points

    def note(_: object) -> None:
        nonlocal here, length
        before, here = here, surface.point()
        length += (here - before).norm().item()
        if descent.examples_seen - seen[-1] >= every or descent.examples_seen == examples:
            seen.append(descent.examples_seen)
            vectors.append(here)
            costs.append(own.objective())

    descent.register_update_hook(note)
    descend(own, descent, examples, extent.seed)
    return Walk(lr, seen, torch.stack(vectors), costs, descent.updates, length)


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


def frame(paths: Sequence[Path], grid: int) -> tuple[list[float], list[float]]:
    """Return evenly spaced coordinates, first and second, of a map around some paths."""
    points = np.concatenate([[path.across, path.along] for path in paths], axis=1)
    low, high = points.min(axis=1), points.max(axis=1)
    extent = (1 + 2 * MARGIN) * (high - low)
    # Widened one way, so that what is perpendicular is so on the map.
    extent = np.maximum(extent, extent[::-1] * [PROPORTION, 1 / PROPORTION])
    first, second = np.linspace((low + high - extent) / 2, (low + high + extent) / 2, grid).T.tolist()
    return first, second


def levels(costs: Sequence[Sequence[float]], number: int) -> list[float]:
    """Return the costs to draw contours at, ever closer towards the lowest."""
    low, high = np.min(costs), np.max(costs)
    return [float(low + (high - low) * share) for share in np.geomspace(1e-3, 0.9, number)]
