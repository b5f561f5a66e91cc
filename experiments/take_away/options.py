"""The options of the exported step."""

from dataclasses import dataclass

from experiments.options import Options as Common
from experiments.options import option, whole


@dataclass(frozen=True)
class Options(Common):
    """How long it trains."""

    epochs: int = option(5, whole(1, 10**4), "Passes over scikit-learn's handwritten digits.", fast=2)
