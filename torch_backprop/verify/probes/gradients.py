"""Outputs and gradients on every sample: the numbers themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from ..diagnosis import diagnose
from ..probe import probe
from ..samples import rows
from ..subgradient import is_subgradient
from ..trial import Difference, Evidence, Trial
from ..truth import is_off

_INACCURATE = 1e-5
"""Relative error up to which a reference is suspected itself."""
_BLOCK = 1031
_MANY = 70_000
_SECONDS = 5.0
"""Estimated for the larger of the two samples, if the cost is quadratic."""


@probe(every=True)
def numbers(trial: Trial) -> Iterator[Evidence]:
    """Outputs, then gradients, against the truth."""
    if trial.sample.fault == "zero-dim-input" and not _elementwise(trial.on(trial.given)):
        return
    if trial.seen().error is not None:
        yield _raised(trial)
        return
    differences = list(trial.differences())
    outputs = [item for item in differences if item.leaf is None]
    for difference in outputs or differences:
        if difference.leaf is None or not _excused(trial, difference):
            yield diagnose(trial, difference)


def _excused(trial: Trial, difference: Difference) -> bool:
    """Another subgradient, where nobody says which; or a reference whose own gradient is inaccurate."""
    leaf, seen = difference.leaf or "", difference.seen
    if seen is None or is_subgradient(trial, leaf, seen):
        return seen is not None
    if difference.relative > _INACCURATE or not trial.truth_of.judges_forward:
        return False
    if not is_off(trial.truth_of, trial.sample, leaf, seen, difference.expected):
        return False
    trial.note(f"{trial.sample.name}: the reference's own {difference.what} is off; the candidate is right")
    return True


@probe(quick=False, sound=True)
def large(trial: Trial) -> Iterator[Evidence]:
    """More rows than a block, and more elements than 16 bits count, if the reference is quick enough."""
    if not all(x.numel() for x in trial.sample.inputs.values()):
        return
    width = max(1, max(x.numel() for x in trial.sample.inputs.values()) // _length(trial))
    spent = 0.0
    count = _BLOCK
    while spent < _SECONDS and count <= _BLOCK + _MANY // width:
        many = trial.on(rows(trial.sample, count, f"{count} rows", "large-input"))
        start = time.perf_counter()
        if many.truth().error is None:
            yield from numbers(many)
        # what is quadratic in the rows must not run away
        spent = (time.perf_counter() - start) * (_MANY / width / count) ** 2
        count += _MANY // width


def _elementwise(trial: Trial) -> bool:
    """Whether no dimensions make sense: of rows or columns a 0-dim tensor has none."""
    shapes = {x.shape for x in trial.sample.inputs.values()}
    return all(y.shape in (*shapes, torch.Size()) for y in trial.truth().outputs)


def _length(trial: Trial) -> int:
    return max(1, next((x.shape[0] for x in trial.sample.inputs.values() if x.dim()), 1))


def _raised(trial: Trial) -> Evidence:
    seen = trial.seen()
    fault = trial.sample.fault
    if fault == "wrong-gradient":
        integer = any(not (y.is_floating_point() or y.is_complex()) for y in seen.outputs)
        fault = "integer-output" if integer else f"{seen.stage}-crash"
    elif fault == "extra-dimension" or (seen.stage == "forward" and fault == "untaken-branch"):
        fault = "refuses-input"
    return Evidence(fault, seen.words, "the reference returns", f"{seen.stage} fails on this sample")
