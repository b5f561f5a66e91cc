"""The options of the experiment on trajectories."""

from dataclasses import dataclass, field
from typing import ClassVar

from experiments.compare.options import rates
from experiments.options import ModelOptions, option, positive, whole
from experiments.theory.options import ProblemOptions, problems

OWN = {"quadratic": ("slopes", "serum"), "perceptron": ("perceptron", "digits")}
# An update over fewer examples bears less.
SHARES = {"batch": 0.45, "stochastic": 0.01, "mini-batch": 0.12}


@dataclass(frozen=True)
class Options(ProblemOptions):
    """How far the paths go, and how finely they are drawn."""

    OWN: ClassVar = OWN
    model: ModelOptions = field(default_factory=lambda: ModelOptions(width=16))
    problems: tuple[str, ...] = problems(OWN)
    lr: dict[str, float] = option(
        {},
        rates,
        "Learning rates as shares of 2/lambda_max at the start, by variant; where none is given"
        f" {','.join(f'{name}={share:g}' for name, share in SHARES.items())}.",
        "SHARES",
    )
    start: float = option(
        4.0, positive("factor"), "Where there are but two parameters, the factor of their start.", "FACTOR"
    )
    epochs: int = option(16, whole(1, 10**4), "Passes over the data, for each variant.", fast=1)
    batch_size: int = option(32, whole(1, 10**6), "Examples in one mini-batch.")
    points: int = option(300, whole(10, 10**4), "Points of a path, about.", fast=60)
    grid: int = option(61, whole(10, 500), "Points of the map, each way.", fast=21)

    @property
    def shares(self) -> dict[str, float]:
        """The learning rates as shares of the bound, by variant."""
        return SHARES | self.lr
