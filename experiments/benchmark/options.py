"""The options of the benchmark."""

from dataclasses import dataclass

from experiments.options import Options as Common
from experiments.options import flag, option


@dataclass(frozen=True)
class Options(Common):
    """What is measured."""

    only: str = option("*", str, "Layers, or cases of the optimizers, by name, as in 'Conv*'.", "PATTERN")
    optimizers: bool = option(False, flag, "The optimizers against a plain loop, not the layers.")
    compiled: bool = option(False, flag, "Compiled by Inductor, which takes seconds for each layer.")
