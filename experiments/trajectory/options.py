"""The options of the experiment on trajectories."""

from dataclasses import dataclass

from experiments.options import Options as Common
from experiments.options import listing, one_of, option, several, whole

PROBLEMS = ("quadratic", "perceptron")


@dataclass(frozen=True)
class Options(Common):
    """How far the paths go, and how finely they are drawn."""

    problems: tuple[str, ...] = option(
        PROBLEMS, several(one_of(PROBLEMS)), f"Costs, between commas: {listing(PROBLEMS)}.", "NAMES"
    )
    epochs: int = option(16, whole(1, 10**4), "Passes over the data, for each variant.", fast=2)
    batch_size: int = option(32, whole(1, 10**6), "Examples in one mini-batch.")
    points: int = option(300, whole(10, 10**4), "Points of a path, about.", fast=60)
    grid: int = option(61, whole(10, 500), "Points of the map, each way.", fast=21)
