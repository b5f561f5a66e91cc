"""Where the paths went, in sentences written from the measured numbers."""

from collections.abc import Sequence
from itertools import pairwise

from experiments.theory.variants import VARIANTS
from experiments.theory.words import series
from experiments.trajectory.measure import Path, Plane


def headline(planes: Sequence[Plane]) -> str:
    """Say which variant came lowest on each cost."""
    parts = [f"<b>{_lowest(plane)}</b> on the {plane.problem}" for plane in planes]
    return f"After {planes[0].epochs} epochs the lowest is {series(parts)}." if planes else ""


def plane_line(plane: Plane) -> str:
    """Say what the map shows, and how much of the paths it holds."""
    held = 100 * sum(plane.held)
    if plane.problem == "quadratic":
        return (
            "The cost is that of a linear regression with two slopes, of two measurements that go together:"
            f" a valley. {_way(plane)}"
        )
    return (
        f"The map is the plane through the paths' mean along their two principal directions, which hold"
        f" {held:.0f} per cent of the paths' variance in all parameters; the contours are the cost on that"
        f" plane. {_way(plane)}"
    )


def detour(path: Path) -> float:
    """Return how many times as long as the straight line from its start to its end a path is."""
    points = list(zip(path.across, path.along, strict=True))
    length = sum(_distance(*pair) for pair in pairwise(points))
    return length / _distance(points[0], points[-1])


def _way(plane: Plane) -> str:
    ways = [
        f"{variant} makes {path.updates:,} updates and goes {detour(path):.1f} times as far as the straight"
        f" line, to a cost of {path.costs[-1]:.4f}"
        for variant in VARIANTS
        if (path := plane.paths[variant])
    ]
    return f"Given the same {plane.rows * plane.epochs:,} examples, {series(ways)}."


def _lowest(plane: Plane) -> str:
    return min(plane.paths, key=lambda variant: plane.paths[variant].costs[-1])


def _distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    return ((first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2) ** 0.5
