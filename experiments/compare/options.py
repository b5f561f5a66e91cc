"""The options of the comparison."""

import argparse
from dataclasses import dataclass
from typing import Any

from experiments.options import TrainingOptions, listing, maybe, one_of, option, positive, several, whole

VARIANTS = ("batch", "stochastic", "mini-batch")
# As many as batch descent needs on the digits, where an epoch is but one update.
EPOCHS, FAST_EPOCHS = 40, 3
BUDGETS = ("epochs", "examples", "updates", "seconds")
_positive = positive("learning rate", "give a number above 0 such as 0.1, or batch=0.5,stochastic=0.01")
# The greatest number of the parameters' precision; torch would stop at a greater one, in the midst of it.
GREATEST = 3.4e38


def rate(value: Any) -> float:
    """Accept a learning rate that float32 can hold.

    Raises:
        argparse.ArgumentTypeError: If it is not a positive number, or too great.
    """
    number = _positive(value)
    if number > GREATEST:
        raise argparse.ArgumentTypeError(
            f"{str(value)!r} is more than float32 can hold; give at most {GREATEST:g}"
        )
    return number


def rates(value: Any) -> dict[str, float]:
    """Read one learning rate for all, or ``variant=rate`` pairs between commas; mini-batch-64 is one size.

    >>> rates("batch=0.5,mini-batch=0.1")
    {'batch': 0.5, 'mini-batch': 0.1}

    Raises:
        argparse.ArgumentTypeError: If a rate is not a positive finite number or a variant is unknown.
    """
    if isinstance(value, dict):
        return {_contender(name): rate(each) for name, each in value.items()}
    if "=" not in str(value):
        return dict.fromkeys(VARIANTS, rate(value))
    pairs = [part.partition("=") for part in value.split(",")]
    return {_contender(name.strip()): rate(each) for name, _, each in pairs}


def _contender(name: str) -> str:
    variant, _, size = name.rpartition("-")
    return name if variant == "mini-batch" and size.isdigit() else one_of(VARIANTS)(name)


@dataclass(frozen=True)
class Options(TrainingOptions):
    """One comparison's settings; `lr` holds only the rates that were given."""

    variants: tuple[str, ...] = option(
        VARIANTS,
        several(one_of(VARIANTS)),
        f"Variants to compare, between commas: {listing(VARIANTS)}.",
        "NAMES",
    )
    batch_size: tuple[int, ...] = option(
        (32,),
        several(whole(1, 10**6)),
        "Examples in one mini-batch; several, as 8,64, are compared.",
        "N,...",
    )
    repeats: int = option(1, whole(1, 1000), "Trainings of each, from as many starts and orders.")
    lr: dict[str, float] = option(
        {}, rates, "Learning rate: 0.1, or batch=0.5,stochastic=0.01; a sweep finds the others.", "RATE"
    )
    epochs: int | None = option(
        None,
        maybe(whole(1, 10**6)),
        f"Budget: passes over the training part; {EPOCHS} if no budget is given.",
    )
    examples: int | None = option(None, maybe(whole(1, 10**12)), "Budget: examples seen.")
    updates: int | None = option(None, maybe(whole(1, 10**9)), "Budget: updates of the parameters.")
    seconds: float | None = option(
        None, maybe(positive("time in seconds")), "Budget: seconds of training.", "SECONDS"
    )
    target: float | None = option(
        None,
        maybe(positive("cost")),
        "Training cost to be reached; by default the lowest that all reach.",
        "COST",
    )

    def check(self) -> None:
        """Allow one budget, and no rate of what does not take part."""
        super().check()
        # Two budgets would leave it open which of them ended a training.
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise argparse.ArgumentTypeError(f"--{given[1]}: cannot go with --{given[0]}; give one budget")

    @property
    def budget(self) -> tuple[str, float]:
        """The budget that all are given, and how much of it."""
        for name in BUDGETS:
            if getattr(self, name) is not None:
                return name, getattr(self, name)
        return "epochs", FAST_EPOCHS if self.fast else EPOCHS
