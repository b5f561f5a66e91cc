"""What a person can ask of an experiment, and what each answer must look like.

An experiment's options are a frozen dataclass of fields made by `option`, and of groups of them. Nothing here
imports torch, so that ``--help`` and every complaint come at once.
"""

import argparse
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TABLES = ("breast_cancer", "wine", "iris", "diabetes", "serum")
FETCHED = ("mnist", "cifar10")
IMAGES = ("digits", *FETCHED)
DATA = ("digits", *TABLES, "text", *FETCHED)
SHIPPED = "digits, breast_cancer, wine, iris, diabetes, serum and text ship with what is installed"
READS = {
    "linear": ("table", "image"),
    "slopes": ("table", "image"),
    "perceptron": ("table", "image"),
    "convolution": ("image",),
    "recurrent": ("text",),
    "transformer": ("text",),
}
"""Which kind of data each model takes."""
PROCESSES = max(16, 4 * (os.cpu_count() or 1))
"""More on one machine are a slip of the hand, and would take all of its memory."""
COSTS = ("likelihood", "squares")
CHOSEN = "chosen"
"""Among the costs that an experiment has by their names, the one that --model and --data make."""
ACCELERATORS = ("auto", "cpu", "cuda")

Parse = Callable[[Any], Any]


def option(default: Any, parse: Parse, sentence: str, metavar: str = "N", fast: Any = None) -> Any:
    """Return a dataclass field that is an option on the command line and a key in the configuration.

    Args:
        default: its value where it is not given.
        parse: takes the text, or the value in a YAML file, and returns the value.
        sentence: what it means.
        metavar: stands for the value in the help.
        fast: its value under ``--fast``, if not the default.
    """
    about = {"parse": parse, "sentence": sentence, "metavar": metavar, "fast": fast}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


def listing(names: Iterable[str]) -> str:
    """Join names as a sentence does.

    >>> listing(["cpu", "cuda", "auto"])
    'cpu, cuda or auto'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def one_of(names: Iterable[str]) -> Parse:
    """Accept one of the names."""

    def parse(text: Any) -> str:
        if text not in tuple(names):
            raise argparse.ArgumentTypeError(f"{text!r} is unknown; choose {listing(names)}")
        return text

    return parse


def whole(least: int, most: int) -> Parse:
    """Accept a whole number from `least` to `most`."""

    def parse(value: Any) -> int:
        text = str(value)
        # int() alone would take "1_000", " 7" and digits of other scripts.
        if not text.isascii() or not text.removeprefix("-").isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def positive(noun: str, example: str = "give a number above 0") -> Parse:
    """Accept a finite number above 0."""

    def parse(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        # Also refuses NaN, which compares as false.
        if not 0 < number < math.inf or isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"{str(value)!r} is no {noun}; {example}")
        return number

    return parse


def maybe(parse: Parse) -> Parse:
    """Accept also nothing, which a configuration writes as null."""
    return lambda value: None if value is None else parse(value)


def several(parse: Parse) -> Parse:
    """Accept values between commas, or a list in a configuration; each once."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
        found = tuple(parse(part.strip() if isinstance(part, str) else part) for part in parts)
        if len(set(found)) < len(found) or not found:
            raise argparse.ArgumentTypeError(f"{value!r} must name each once, and at least one")
        return found

    return parse_all


def flag(value: Any) -> bool:
    """Accept true or false, as a configuration has them."""
    if not isinstance(value, bool):
        raise argparse.ArgumentTypeError(f"{value!r} is neither true nor false")
    return value


def accelerator(text: Any) -> str:
    """Accept a device that this machine has; torch is asked only about CUDA."""
    # Importing torch takes two seconds, which no other option needs to wait for.
    if one_of(ACCELERATORS)(text) == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise argparse.ArgumentTypeError("'cuda' is not on this machine; choose cpu or auto")
    return text


def folder(text: Any) -> str:
    """Accept a path, which the empty text is not."""
    if not text:
        raise argparse.ArgumentTypeError("'' names no folder; give a path such as runs")
    return text


def data_set(text: Any) -> str:
    """Accept the name of a data set, ``text:FILE`` or ``openml:NAME``."""
    kind, colon, rest = str(text).partition(":")
    if text in FETCHED and find_spec("torchvision") is None:
        why = "torchvision, which is missing: python -m pip install torchvision"
        raise argparse.ArgumentTypeError(f"{text!r} needs {why}; {SHIPPED}")
    if kind == "text" and rest and not Path(rest).is_file():
        raise argparse.ArgumentTypeError(f"{rest!r} is no file to read; {SHIPPED}")
    if text in DATA or (colon and rest and kind in ("text", "openml")):
        return str(text)
    raise argparse.ArgumentTypeError(f"{text!r} is unknown; choose {listing(DATA)}, text:FILE or openml:NAME")


@dataclass(frozen=True)
class ModelOptions:
    """What learns."""

    name: str = option("perceptron", one_of(READS), f"Model: {listing(READS)}.", "NAME")
    width: int = option(32, whole(1, 10**5), "Units in a hidden layer, channels, or features of a character.")
    depth: int = option(1, whole(1, 100), "Hidden layers, or blocks of a transformer.")
    heads: int = option(4, whole(1, 1000), "Heads of a transformer's attention, which divide the width.")
    cost: str = option(
        "likelihood",
        one_of(COSTS),
        "Cost: likelihood, or squares also of classes, each 1 in its place.",
        "NAME",
    )


@dataclass(frozen=True)
class DataOptions:
    """What it learns from."""

    name: str = option("digits", data_set, f"Data: {listing(DATA)}, text:FILE or openml:NAME.", "NAME")
    examples: int = option(1500, whole(20, 10**8), "Rows at most of a set that has many.", fast=200)
    context: int = option(32, whole(2, 10**4), "Characters in one example of a text.", fast=16)

    @property
    def kind(self) -> str:
        """Whether it is a table, images or a text."""
        return "image" if self.name in IMAGES else "text" if self.name.startswith("text") else "table"


@dataclass(frozen=True)
class TrainerOptions:
    """Where it is trained; by the names of Lightning's Trainer."""

    accelerator: str = option("auto", accelerator, f"Device: {listing(ACCELERATORS)}.", "NAME")
    devices: int = option(1, whole(1, PROCESSES), "Processes on this machine, each with a device of its own.")
    num_nodes: int = option(1, whole(1, 10**4), "Machines.")
    strategy: str = option(
        "auto", one_of(("auto", "ddp")), "How processes share the work: auto or ddp.", "NAME"
    )


@dataclass(frozen=True)
class Options:
    """The options that every experiment has."""

    seed: int = option(0, whole(0, 2**32 - 1), "Seed of all random numbers.")
    fast: bool = option(False, flag, "Smoke run of some seconds: little of everything.")

    def check(self) -> None:
        """Hold the options against each other.

        Raises:
            argparse.ArgumentTypeError: Naming one that does not go with the others.
        """


@dataclass(frozen=True)
class LearnerOptions(Options):
    """The options of every experiment with a model on data."""

    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def check(self) -> None:
        """Hold model and data against each other."""
        name, kind = self.model.name, self.data.kind
        if kind not in READS[name]:
            fitting = listing(model for model, kinds in READS.items() if kind in kinds)
            raise argparse.ArgumentTypeError(
                f"--model: {name!r} does not read {self.data.name}, which is {kind}; choose {fitting}"
            )
        if name == "transformer" and self.model.width and self.model.width % self.model.heads:
            raise argparse.ArgumentTypeError(
                f"--model.heads: {self.model.heads} does not divide --model.width {self.model.width}"
            )


@dataclass(frozen=True)
class TrainingOptions(LearnerOptions):
    """The options of every experiment that trains a model on data."""

    trainer: TrainerOptions = field(default_factory=TrainerOptions)
