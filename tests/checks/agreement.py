"""What it means that a layer and its built-in agree: the same outcome of the same probe."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .comparison import TO_ROUNDING, Comparison, equal
from .trial import Trial

Probe = Callable[[Trial], Any]


@dataclass(frozen=True)
class Raised:
    """An outcome: the probe ended with this error."""

    kind: type[Exception]
    words: str


def agree(
    probe: Probe,
    ours: Trial,
    builtin: Trial,
    name: str,
    may_raise: bool = False,
    how: Comparison = TO_ROUNDING,
) -> None:
    """Fails unless the probe's outcome on the layer is its outcome on the built-in.

    Args:
        probe: maps a trial to tensors, tuples, lists, dicts and plain values.
        ours: the layer's trial.
        builtin: the built-in's trial.
        name: what was probed, for the message.
        may_raise: whether the built-in may raise; then the layer must raise the same.
        how: how outcomes are compared.
    """
    expected, known = outcome(probe, builtin, may_raise)
    seen, warned = outcome(probe, ours, True)
    title = f"{ours.title}: {name}"
    equal(seen, expected, title, how)
    # torch says some things once a process, to the built-in, which runs first
    if not warned <= known:
        raise AssertionError(f"{title}: warns {warned - known}, the built-in does not")


def outcome(probe: Probe, trial: Trial, may_raise: bool = False) -> tuple[Any, set[str]]:
    """What the probe returned or raised, and the warnings that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = probe(trial)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            if not may_raise:
                raise
            result = Raised(type(error), _words(error))
    given = {_words(warning.message) for warning in caught}
    # which of its operators torch batches quickly is no difference between two layers
    return result, {words for words in given if "have not yet implemented the batching rule" not in words}


def _words(message: Exception | Warning | str) -> str:
    # which of its operators torch cannot batch is no difference between two layers
    return re.sub(r"aten::\w+", "aten::*", str(message))
