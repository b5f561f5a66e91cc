r"""The paths of the three variants, and the cost on a plane that holds them, or most of them.

A cost of two parameters is its own plane. Of a network's P parameters the plane is the one that holds most of
the paths' variance: through their mean, along the first two principal directions, the right singular vectors
of the points less their mean (Li et al. 2018, arXiv:1712.09913, section 7.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.compare.contender import Contender
from experiments.compare.options import VARIANTS
from experiments.data.table import SERUM
from experiments.run import Run, RunError
from experiments.study import Progress
from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import Problem
from experiments.training import Notes, Training
from torch_backprop.optim import Descent

# How far the map reaches beyond the paths, in their own extent.
MARGIN = 0.12
# Of the map, its width over its height.
PROPORTION = 1.75


# Of more parameters than these, the points of three paths are more than memory is for.
MOST_PARAMETERS = 100_000


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
        problem: its title.
        unit: that of its cost.
        parameters: how many it has; where there are two, they are the coordinates.
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
    unit: str
    parameters: int
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


class Walk(Notes):
    """Notes where a descent is, at some of its updates, and how long its way is, over all of them."""

    def __init__(self, surface: Surface, every: float, last: int) -> None:
        super().__init__()
        self.surface, self.every, self.last = surface, every, last

    def begin(self) -> None:
        """Note the start."""
        here = self.surface.point()
        self.kept = {"examples": [0], "vectors": [here], "costs": [self.surface.here()]}
        self.kept |= {"here": here, "length": 0.0, "updates": 0}

    def see(self, optimizer: Descent) -> None:
        """Note where an update has come to, if it is a point of the path."""
        kept, here = self.kept, self.surface.point()
        kept["length"] += (here - kept["here"]).norm().item()
        kept["here"], kept["updates"] = here, optimizer.updates
        # Of a path of many updates, as many as an eye can follow; of one of few updates, all.
        if (
            optimizer.examples_seen - kept["examples"][-1] >= self.every
            or optimizer.examples_seen == self.last
        ):
            kept["examples"].append(optimizer.examples_seen)
            kept["vectors"].append(here)
            kept["costs"].append(self.surface.here())

    def on(self, lr: float, origin: Tensor, directions: Tensor) -> Path:
        """Return the path on a plane."""
        kept, vectors = self.kept, self.vectors
        across, along = ((vectors - origin) @ directions.T).T.tolist()
        detour = kept["length"] / (vectors[-1] - vectors[0]).norm().item()
        return Path(lr, kept["examples"], across, along, kept["costs"], kept["updates"], detour)

    @property
    def vectors(self) -> Tensor:
        """The parameters at each point, (points, P)."""
        return torch.stack(self.kept["vectors"]).cpu()


def measure(run: Run, problem: Problem, progress: Progress) -> Plane:
    """Descend by all variants, and map the cost around their paths.

    Raises:
        RunError: If a variant diverges, or there are too many parameters.
    """
    options = run.options
    if problem.surface(problem.learner()).size == 2:
        # Far from the minimum, so that there is a way to go.
        problem = replace(problem, start=options.start)
    learner = problem.learner()
    surface = problem.surface(learner)
    if surface.size > MOST_PARAMETERS:
        most = f"{surface.size:,} parameters, of {MOST_PARAMETERS:,} at most"
        raise RunError(f"--model.width: {problem.title} has {most}; give a smaller --model.width")
    bound, start = problem.limit, surface.point()
    rates = {variant: options.shares[variant] * bound for variant in VARIANTS}
    walks: dict[str, Walk] = {}
    for number, variant in enumerate(VARIANTS):
        part = partial(_part, progress, number)
        walks[variant] = walk(run, problem, variant, rates[variant], part)
    progress(0.75, "the map")
    origin, directions, held = plane(torch.cat([each.vectors for each in walks.values()]))
    paths = {variant: each.on(rates[variant], origin, directions) for variant, each in walks.items()}
    across, along = frame(list(paths.values()), options.grid)
    costs = [heights(surface, origin + b * directions[1], directions[0], across) for b in along]
    lowest = minimum(surface, start) if problem.quadratic else None
    floor = 0.0 if lowest is None else surface.at(lowest).item()
    counts = problem.data.order.examples, options.epochs
    return Plane(
        problem.title,
        problem.unit,
        surface.size,
        labels(problem, surface.size),
        held,
        across,
        along,
        costs,
        paths,
        floor,
        *counts,
    )


@torch.no_grad()
def heights(surface: Surface, origin: Tensor, direction: Tensor, places: Sequence[float]) -> list[float]:
    """Return the cost at some places along a line."""
    return [surface.at(origin + place * direction).item() for place in places]


def _part(progress: Progress, number: int, share: float, text: str) -> None:
    # Three variants, and the map.
    progress((number + share) / 4, text)


def walk(run: Run, problem: Problem, variant: str, lr: float, progress: Progress) -> Walk:
    """Descend by one variant, and note the parameters on the way.

    Raises:
        RunError: If it diverges.
    """
    options, learner = run.options, problem.learner()
    size = {"batch": math.inf, "stochastic": 1.0}.get(variant, float(options.batch_size))
    learner.descend = Contender(variant, size, VARIANTS.index(variant)).optimizer(lr)
    examples = options.epochs * problem.data.order.examples
    notes = Walk(problem.surface(learner), examples / options.points, examples)
    training = Training(f"{problem.name}-{variant}", learner, problem.data, options.seed, examples)
    finite, costs = training.fit(run, notes, progress), notes.kept["costs"]
    if not finite or not costs[-1] <= costs[0]:
        share = options.shares[variant]
        raise RunError(
            f"--lr: {variant}={share:g} of the bound diverges on {problem.title}; give a smaller one"
        )
    return notes


def labels(problem: Problem, parameters: int) -> list[str]:
    """Say what the two coordinates of the map are."""
    if parameters > 2:
        return ["first principal direction of the paths", "second principal direction"]
    known = problem.data.name == "serum" and problem.model.name == "slopes"
    return [f"slope along {name}" for name in SERUM.values()] if known else ["first parameter", "second"]


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
