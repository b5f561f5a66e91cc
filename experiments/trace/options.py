"""The options of the trace."""

from dataclasses import dataclass, field

from experiments.options import Options as Common
from experiments.options import listing, one_of, option, whole

MODELS = ("perceptron", "convolution", "2-2-1")
DIGITS = 1797


@dataclass(frozen=True)
class Model:
    """What the pass goes through."""

    name: str = option(
        "perceptron", one_of(MODELS), f"Model: {listing(MODELS)}, worked out as on paper.", "NAME"
    )


@dataclass(frozen=True)
class Options(Common):
    """Which example goes through which model."""

    model: Model = field(default_factory=Model)
    example: int = option(0, whole(0, DIGITS - 1), "Which of scikit-learn's handwritten digits.")
    epochs: int = option(2, whole(0, 1000), "Epochs of training before the pass.", fast=1)
