"""A data set before it is split, and the one line for what cannot be used."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.options import SHIPPED
from experiments.run import RunError

PARTS = ("train", "validation", "test")


class DataError(RunError):
    """Data that cannot be learned from; the message names the set and the fault."""


@dataclass(frozen=True)
class Source:
    """Some rows and what belongs to them.

    Attributes:
        x: Inputs: (N, features) values, (N, C, H, W) pixels or (N, T) characters.
        y: Targets: (N) classes, (N) values of a regression or (N, T) characters.
        outputs: Number of classes or characters, 1 for a regression.
        kind: "classes", "values" or "text".
    """

    x: np.ndarray
    y: np.ndarray
    outputs: int
    kind: str


def subset(source: Source, examples: int, seed: int) -> Source:
    """Return at most so many rows, drawn at random; those of a text are the first, which belong together."""
    if len(source.x) <= examples:
        return source
    rows = np.random.default_rng(seed).permutation(len(source.x))[:examples]
    rows = np.arange(examples) if source.kind == "text" else np.sort(rows)
    return Source(source.x[rows], source.y[rows], source.outputs, source.kind)


def check(name: str, source: Source) -> None:
    """Refuse what would spoil every training.

    Raises:
        DataError: If a value is missing or infinite, there is but one class, or a class has too few examples.
    """
    for what, values in (("inputs", source.x), ("targets", source.y)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            rows = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
            raise DataError(f"--data: {name}: {bad} of the {what}, in {rows} rows, are NaN or infinite.")
    if source.kind != "classes":
        return
    classes, counts = np.unique(source.y, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"--data: {name}: all examples are of one class.")
    # Dealt out 3 to 1 to 1, five examples are the fewest that are sure to leave one for each part.
    if counts.min() < 5:
        few = classes[counts.argmin()]
        raise DataError(
            f"--data: {name}: class {few} has {counts.min()} of the {len(source.y)} examples: a part would"
            " have none of it; give more --data.examples, or leave the class out."
        )


def fetched(name: str, package: str, fetch: Callable[[], Source]) -> Source:
    """Fetch a set from elsewhere.

    Raises:
        DataError: If it cannot be had.
    """
    try:
        return fetch()
    except ModuleNotFoundError as error:
        raise DataError(
            f"--data: {name} needs {package}, which is missing: python -m pip install {package}; {SHIPPED}."
        ) from error
    # URLError is an OSError; torchvision raises RuntimeError when every mirror fails.
    except (OSError, RuntimeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"--data: {name} is not here and cannot be fetched ({why}); {SHIPPED}.") from error
    except ValueError as error:
        raise DataError(f"--data: {name}: {str(error).splitlines()[0]}") from error
