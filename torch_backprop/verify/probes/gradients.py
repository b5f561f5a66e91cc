"""Outputs and gradients on every sample: the numbers themselves."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnosis import diagnose
from ..probe import probe
from ..subgradient import is_subgradient
from ..trial import Evidence, Trial


@probe(every=True)
def numbers(trial: Trial) -> Iterator[Evidence]:
    """Outputs, then gradients, against the truth."""
    seen = trial.seen()
    if seen.error is not None:
        yield _raised(trial)
        return
    differences = list(trial.differences())
    outputs = [item for item in differences if item.leaf is None]
    for difference in outputs or differences:
        if not (difference.leaf and is_subgradient(trial, difference.leaf, difference.seen)):
            yield diagnose(trial, difference)


def _raised(trial: Trial) -> Evidence:
    seen = trial.seen()
    fault = trial.sample.fault
    if fault == "wrong-gradient":
        integer = any(not (y.is_floating_point() or y.is_complex()) for y in seen.outputs)
        fault = "integer-output" if integer else f"{seen.stage}-crash"
    elif seen.stage == "forward" and fault in ("extra-dimension", "untaken-branch"):
        fault = "refuses-input"
    return Evidence(fault, seen.words, "the reference returns", f"{seen.stage} fails on this sample")
