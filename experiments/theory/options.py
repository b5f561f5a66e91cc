"""Which costs an experiment on the theory descends on: its own, or that of --model on --data."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from experiments.options import (
    CHOSEN,
    DataOptions,
    ModelOptions,
    TrainingOptions,
    listing,
    one_of,
    option,
    several,
)


def problems(own: Mapping[str, tuple[str, str]]) -> Any:
    """Return the option that names costs.

    Args:
        own: The experiment's costs by name, each a model and the data that it is on.
    """
    sentence = (
        f"Costs, between commas: {listing([*own, CHOSEN])}, the one of --model on --data, and alone where"
        " these are given."
    )
    return option(tuple(own), several(one_of([*own, CHOSEN])), sentence, "NAMES")


@dataclass(frozen=True)
class ProblemOptions(TrainingOptions):
    """The options of an experiment that descends on several costs, one after the other."""

    OWN: ClassVar[Mapping[str, tuple[str, str]]] = {}
    problems: tuple[str, ...] = problems(OWN)

    def check(self) -> None:
        """Refuse a model or data that no problem is made of."""
        super().check()
        chosen = CHOSEN in self.problems
        for name, given, default in (
            ("model", self.model.name, ModelOptions().name),
            ("data", self.data.name, DataOptions().name),
        ):
            if given != default and not chosen:
                raise argparse.ArgumentTypeError(
                    f"--{name}: {given!r} is in none of --problems {','.join(self.problems)}; add {CHOSEN}"
                )

    def named(self, name: str) -> tuple[ModelOptions, DataOptions]:
        """Return the model and the data of a problem; sizes are the same for all."""
        if name == CHOSEN:
            return self.model, self.data
        model, data = self.OWN[name]
        return replace(self.model, name=model), replace(self.data, name=data)
