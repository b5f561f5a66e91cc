"""The options of the experiment on learning rates."""

import argparse
from dataclasses import dataclass, field
from typing import ClassVar

from experiments.compare.options import VARIANTS
from experiments.options import ModelOptions, listing, one_of, option, positive, several, whole
from experiments.theory.options import ProblemOptions, problems

OWN = {"quadratic": ("linear", "diabetes"), "perceptron": ("perceptron", "digits")}


@dataclass(frozen=True)
class Options(ProblemOptions):
    """Which rates are tried, and for how long."""

    OWN: ClassVar = OWN
    # Of squares the sharpness rises to the edge of stability and stays; of cross-entropy it falls again, once
    # every digit of the training part is told right.
    model: ModelOptions = field(default_factory=lambda: ModelOptions(cost="squares"))
    problems: tuple[str, ...] = problems(OWN)
    variants: tuple[str, ...] = option(
        VARIANTS, several(one_of(VARIANTS)), f"Variants, between commas: {listing(VARIANTS)}.", "NAMES"
    )
    updates: int = option(100, whole(1, 10**6), "Updates at each rate.", fast=10)
    lowest: float = option(1e-3, positive("learning rate"), "The lowest rate.", "RATE")
    highest: float = option(30.0, positive("learning rate"), "The highest rate.", "RATE")
    per_decade: int = option(8, whole(1, 100), "Rates tried in a factor of ten.", fast=1)
    batch_size: int = option(32, whole(1, 10**6), "Examples in one mini-batch.")
    repeats: int = option(3, whole(1, 1000), "Orders of the examples at each rate.", fast=1)
    sharpness_updates: int = option(
        2000, whole(0, 10**6), "Updates along which the sharpness is followed; 0 leaves it out.", fast=20
    )

    def check(self) -> None:
        """Hold the two ends against each other."""
        super().check()
        if self.lowest >= self.highest:
            raise argparse.ArgumentTypeError(
                f"--lowest: {self.lowest:g} is not below --highest {self.highest:g}; give a lower one"
            )
