"""The options of the experiment on learning rates."""

import argparse
from dataclasses import dataclass

from experiments.options import Options as Common
from experiments.options import listing, one_of, option, positive, several, whole

PROBLEMS = ("quadratic", "perceptron")
VARIANTS = ("batch", "stochastic", "mini-batch")


@dataclass(frozen=True)
class Options(Common):
    """Which rates are tried, and for how long."""

    problems: tuple[str, ...] = option(
        PROBLEMS, several(one_of(PROBLEMS)), f"Costs, between commas: {listing(PROBLEMS)}.", "NAMES"
    )
    variants: tuple[str, ...] = option(
        VARIANTS, several(one_of(VARIANTS)), f"Variants, between commas: {listing(VARIANTS)}.", "NAMES"
    )
    updates: int = option(200, whole(1, 10**6), "Updates at each rate.", fast=20)
    lowest: float = option(1e-3, positive("learning rate"), "The lowest rate.", "RATE")
    highest: float = option(30.0, positive("learning rate"), "The highest rate.", "RATE")
    per_decade: int = option(8, whole(1, 100), "Rates tried in a factor of ten.", fast=2)
    batch_size: int = option(32, whole(1, 10**6), "Examples in one mini-batch.")
    repeats: int = option(3, whole(1, 1000), "Orders of the examples at each rate.", fast=1)
    sharpness_updates: int = option(
        3000, whole(0, 10**6), "Updates along which the sharpness is followed; 0 leaves it out.", fast=60
    )

    def check(self) -> None:
        """Hold the two ends against each other."""
        if self.lowest >= self.highest:
            raise argparse.ArgumentTypeError(f"--lowest: {self.lowest:g} is not below --highest")
