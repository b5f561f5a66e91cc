"""The options of the benchmark."""

from dataclasses import dataclass

from experiments.options import Options as Common
from experiments.options import flag, one_of, option

DTYPES = ("float32", "float64", "bfloat16")


@dataclass(frozen=True)
class Options(Common):
    """What is measured."""

    only: str = option("*", str, "Layers, or cases, or models, by name, as in 'Conv*'.", "PATTERN")
    optimizers: bool = option(False, flag, "The optimizers against a plain loop, not the layers.")
    examples: bool = option(False, flag, "One example at a time, in all ways, not the layers.")
    compiled: bool = option(False, flag, "Compiled by Inductor, which takes seconds for each layer.")
    quick: bool = option(False, flag, "A tenth of the time, and less certain.")
    dtype: str = option("float32", one_of(DTYPES), "Of the layers' numbers.", "NAME")
