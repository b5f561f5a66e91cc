"""The options of the experiment on convergence."""

import argparse
from dataclasses import dataclass, field
from typing import Any, ClassVar

from experiments.options import ModelOptions, option, positive, whole
from experiments.theory.options import ProblemOptions, problems

OWN = {
    "quadratic": ("linear", "diabetes"),
    "logistic-regression": ("linear", "breast_cancer"),
    "perceptron": ("perceptron", "iris"),
}


def share(value: Any) -> float:
    """Accept a number between 0 and 1."""
    number = positive("share of the bound", "give a number between 0 and 1, such as 0.5")(value)
    if number >= 1:
        raise argparse.ArgumentTypeError(
            f"{str(value)!r} is not below 1, beyond which a quadratic diverges; give one such as 0.5"
        )
    return number


@dataclass(frozen=True)
class Options(ProblemOptions):
    """How far, and at what rate, batch descent goes."""

    OWN: ClassVar = OWN
    # So few parameters that all eigenvalues of the Hessian can be had.
    model: ModelOptions = field(default_factory=lambda: ModelOptions(width=4))
    problems: tuple[str, ...] = problems(OWN)
    rate: float = option(0.5, share, "Learning rate, as a share of 2/lambda_max at the start.", "SHARE")
    decay: float = option(
        0.01,
        positive("factor"),
        "Factor of the penalty decay/2 |theta|^2, which makes minima strict.",
        "DECAY",
        fast=0.3,
    )
    tol: float = option(1e-13, positive("tolerance"), "Tolerance at which a descent has converged.", "COST")
    updates: int = option(20_000, whole(10, 10**8), "Updates at most.", fast=300)
