"""Where the paths went, in sentences written from the measured numbers."""

from collections.abc import Sequence

from experiments.compare.options import VARIANTS
from experiments.trajectory.measure import Plane
from experiments.words import cost_of, count, series


def headline(planes: Sequence[Plane]) -> str:
    """Say which variant came lowest on each cost, and how straight they went."""
    if not planes:
        return ""
    costs: dict[str, list[str]] = {}
    for plane in planes:
        costs.setdefault(_lowest(plane), []).append(cost_of(plane.problem))
    parts = [f"<b>{variant}</b> is lowest on {series(names)}" for variant, names in costs.items()]
    epochs = planes[0].epochs
    text = f"After {count(epochs, 'epoch')} each {series(parts)}."
    if all(map(_longer, planes)):
        text += " The fewer examples an update averages over, the longer is the way for the same distance."
    return text


def plane_line(plane: Plane) -> str:
    """Say what the map shows, and how much of the paths it holds."""
    held = 100 * sum(plane.held)
    if plane.parameters == 2:
        return f"The two coordinates are the two parameters, so that the map is the whole cost. {_way(plane)}"
    return (
        f"The map is the plane through the paths' mean along their two principal directions, which hold"
        f" {held:.0f} per cent of the paths' variance in all parameters; the contours are the cost on that"
        f" plane. {_way(plane)}"
    )


def file_name(plane: Plane) -> str:
    """Return the name of the picture's file."""
    return plane.problem.replace(" ", "-")


def _way(plane: Plane) -> str:
    ways = [
        f"{variant} makes {count(path.updates, 'update')} and goes {path.detour:.1f} times as far as the"
        f" straight line, to a cost of {path.costs[-1]:.4f}"
        for variant in VARIANTS
        if (path := plane.paths[variant])
    ]
    return (
        f"Given the same {plane.rows * plane.epochs:,} examples, {series(ways)}. Below, the cost on the way."
    )


def _longer(plane: Plane) -> bool:
    detours = [plane.paths[variant].detour for variant in ("batch", "mini-batch", "stochastic")]
    return detours == sorted(set(detours))


def _lowest(plane: Plane) -> str:
    return min(plane.paths, key=lambda variant: plane.paths[variant].costs[-1])
