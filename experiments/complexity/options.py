"""The options of the experiment on complexity."""

import argparse
from dataclasses import dataclass, field
from typing import Any

from experiments.options import LearnerOptions, ModelOptions, listing, maybe, one_of, option, several, whole

SWEEPS = ("width", "depth", "parameters", "batch", "data")
# Of a linear model nothing but the rows can be more.
LINEAR, OF_ROWS = ("linear", "slopes"), ("batch", "data")
# Width, depth and rows of a batch that the sizes are multiples of: an update takes milliseconds.
BASES = {
    "linear": (1, 1, 1024),
    "slopes": (1, 1, 1024),
    "perceptron": (256, 3, 256),
    "convolution": (16, 2, 64),
    "recurrent": (128, 1, 32),
    "transformer": (64, 2, 16),
}


def _base(place: int) -> str:
    named = [f"{name} {base[place]}" for name, base in BASES.items() if name not in LINEAR]
    return f"{', '.join(named)} by default."


@dataclass(frozen=True)
class Model(ModelOptions):
    """What is measured."""

    width: Any = option(None, maybe(whole(1, 10**5)), f"Width where it is not varied: {_base(0)}")
    depth: Any = option(None, maybe(whole(1, 100)), f"Depth where it is not varied: {_base(1)}")


@dataclass(frozen=True)
class Options(LearnerOptions):
    """What is varied, and how often it is timed; nothing is trained, so that there is no --trainer."""

    model: ModelOptions = field(default_factory=Model)
    sweeps: tuple[str, ...] = option(
        SWEEPS, several(one_of(SWEEPS)), f"What is varied, between commas: {listing(SWEEPS)}.", "NAMES"
    )
    batch_size: int | None = option(
        None, maybe(whole(16, 10**6)), f"Rows of a batch where they are not varied: {_base(2)}"
    )
    rounds: int = option(15, whole(1, 10**4), "Times that all sizes are timed in turn.", fast=2)

    def check(self) -> None:
        """Refuse to vary what a model does not have."""
        super().check()
        if not self.varied:
            raise argparse.ArgumentTypeError(
                f"--sweeps: {self.sweeps[0]!r} changes nothing in a {self.model.name} model;"
                f" choose {listing(OF_ROWS)}"
            )

    @property
    def varied(self) -> tuple[str, ...]:
        """What is varied, of what the model has."""
        return tuple(name for name in self.sweeps if self.model.name not in LINEAR or name in OF_ROWS)
