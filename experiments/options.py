"""What a person can ask of an experiment, and what each answer must look like.

Nothing here imports torch, so that ``--help`` and every complaint come at once.
"""

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

VARIANTS = ("batch", "stochastic", "mini-batch")
DATA = ("digits", "breast_cancer", "wine", "iris", "diabetes")
MODELS = ("perceptron", "linear")
ACCELERATORS = ("auto", "cpu", "cuda")
# As many as batch descent needs on the digits, where an epoch is but one update.
EPOCHS, FAST_EPOCHS = 40, 3


@dataclass(frozen=True)
class Options:
    """One run's settings, as config.yaml keeps them; `lr` holds only the rates that were given."""

    data: str = "digits"
    model: str = "perceptron"
    epochs: int = EPOCHS
    seed: int = 0
    lr: dict[str, float] = field(default_factory=dict)
    batch_size: int = 32
    accelerator: str = "auto"
    fast: bool = False

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "Options":
        """Fill what was not asked for with the defaults, which `fast` shortens."""
        epochs = FAST_EPOCHS if settings.get("fast") else EPOCHS
        return cls(**{"epochs": epochs, **settings})


def listing(names: Iterable[str]) -> str:
    """Join names as a sentence does.

    >>> listing(["cpu", "cuda", "auto"])
    'cpu, cuda or auto'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """Accept one of the names."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is unknown; choose {listing(names)}")
        return text

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """Accept a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        # int() alone would take "1_000", " 7" and digits of other scripts.
        if not text.isascii() or not text.removeprefix("-").isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def rates(text: str) -> dict[str, float]:
    """Read one learning rate for all variants, or ``variant=rate`` pairs between commas.

    >>> rates("batch=0.5,mini-batch=0.1")
    {'batch': 0.5, 'mini-batch': 0.1}

    Raises:
        argparse.ArgumentTypeError: If a rate is not a positive finite number or a variant is unknown.
    """
    if "=" not in text:
        return dict.fromkeys(VARIANTS, _rate(text))
    pairs = [part.partition("=") for part in text.split(",")]
    return {one_of(VARIANTS)(name.strip()): _rate(value) for name, _, value in pairs}


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Also refuses NaN, which compares as false.
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no learning rate; give a number above 0 such as 0.1, or batch=0.5,stochastic=0.01"
        )
    return value


def accelerator(text: str) -> str:
    """Accept a device that this machine has; torch is asked only about CUDA."""
    # Importing torch takes two seconds, which no other option needs to wait for.
    if one_of(ACCELERATORS)(text) == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise argparse.ArgumentTypeError("'cuda' is not on this machine; choose cpu or auto")
    return text


def folder(text: str) -> str:
    """Accept a path, which the empty text is not."""
    if not text:
        raise argparse.ArgumentTypeError("'' names no folder; give a path such as runs")
    return text


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare every option; one left out is absent from the result, so that --resume can tell."""
    for name, parse, metavar, sentence in (
        ("--data", one_of(DATA), "NAME", f"Data set: {listing(DATA)}; default digits."),
        ("--model", one_of(MODELS), "NAME", f"Model: {listing(MODELS)}; default perceptron."),
        (
            "--epochs",
            whole(1, 10**6),
            "N",
            f"Passes over the training part, for each variant; default {EPOCHS}.",
        ),
        ("--seed", whole(0, 2**32 - 1), "N", "Seed of the split, the start and the order; default 0."),
        (
            "--lr",
            rates,
            "RATE",
            "Learning rate: 0.1, or batch=0.5,stochastic=0.01; a sweep finds the others.",
        ),
        ("--batch-size", whole(1, 10**6), "N", "Examples in one mini-batch; default 32."),
        (
            "--accelerator",
            accelerator,
            "NAME",
            f"Device: {listing(ACCELERATORS)}; auto takes CUDA if it can.",
        ),
        ("--out", folder, "DIR", "Folder that gathers the runs; default runs."),
        ("--resume", folder, "RUN", "Continue the run in this folder from where it was stopped."),
    ):
        parser.add_argument(name, type=parse, metavar=metavar, help=sentence)
    parser.add_argument(
        "--fast", action="store_true", help="Smoke run of some seconds: little of everything."
    )
