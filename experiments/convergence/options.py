"""The options of the experiment on convergence."""

import argparse
from dataclasses import dataclass
from typing import Any

from experiments.options import Options as Common
from experiments.options import listing, one_of, option, positive, several, whole

PROBLEMS = ("quadratic", "logistic-regression", "perceptron")


def share(value: Any) -> float:
    """Accept a number between 0 and 1."""
    number = positive("share of the bound", "give a number between 0 and 1, such as 0.5")(value)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"{str(value)!r} is not below 1, beyond which a quadratic diverges")
    return number


@dataclass(frozen=True)
class Options(Common):
    """How far, and at what rate, batch descent goes."""

    problems: tuple[str, ...] = option(
        PROBLEMS, several(one_of(PROBLEMS)), f"Costs, between commas: {listing(PROBLEMS)}.", "NAMES"
    )
    rate: float = option(0.5, share, "Learning rate, as a share of 2/lambda_max at the start.", "SHARE")
    tol: float = option(
        1e-13, positive("tolerance"), "Tolerance at which a descent has converged.", "COST", fast=1e-9
    )
    updates: int = option(20_000, whole(10, 10**8), "Updates at most.")
