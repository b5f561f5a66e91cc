"""The options of the experiment on complexity."""

from dataclasses import dataclass

from experiments.options import Options as Common
from experiments.options import listing, one_of, option, several, whole

SWEEPS = ("width", "depth", "parameters", "batch", "data")


@dataclass(frozen=True)
class Options(Common):
    """What is varied, and how often it is timed."""

    sweeps: tuple[str, ...] = option(
        SWEEPS, several(one_of(SWEEPS)), f"What is varied, between commas: {listing(SWEEPS)}.", "NAMES"
    )
    rounds: int = option(15, whole(1, 10**4), "Times that all sizes are timed in turn.", fast=2)
