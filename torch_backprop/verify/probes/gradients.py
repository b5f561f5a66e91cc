"""Outputs and gradients on every sample: the numbers themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from ..diagnosis import diagnose
from ..probe import probe
from ..samples import rows
from ..subgradient import is_subgradient
from ..trial import Evidence, Trial

_BLOCK = 1031
_MANY = (70_000, 300_000)
"""Elements: more than 16 bits count, and more than kernels leave in one piece."""
_MOST = 1 << 22
"""Elements beyond which a sample is too large, whatever its time."""
_SECONDS = 5.0
"""Estimated for the next larger sample, if the cost is quadratic."""


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
        if not (difference.leaf and is_subgradient(trial, difference.leaf, difference.seen)):
            yield diagnose(trial, difference)


@probe(quick=False, sound=True)
def large(trial: Trial) -> Iterator[Evidence]:
    """More rows than a block, and many elements, if the reference is quick enough."""
    if trial.truth_of.numeric or not all(x.numel() for x in trial.sample.inputs.values()):
        return
    width = max(1, max(x.numel() for x in trial.sample.inputs.values()) // _length(trial))
    spent, before = 0.0, 1
    for count in dict.fromkeys((_BLOCK, *(_BLOCK + many // width for many in _MANY))):
        # what is quadratic in the rows must not run away
        if count * width > _MOST or spent * (count / before) ** 2 > _SECONDS:
            return
        many = _many_rows(trial, count)
        start = time.process_time()
        if many.truth().error is None:
            yield from numbers(many)
        spent, before = time.process_time() - start, count


def _many_rows(trial: Trial, count: int) -> Trial:
    """The trial on ``count`` rows, of which two right sums may differ by the rounding of their order."""
    # rows repeat, and so does their rounding: one by one, the error of a sum grows with the number of terms
    rounding = count * torch.finfo(trial.sample.dtype).eps
    truth = replace(trial.truth_of, uncertainty=max(trial.truth_of.uncertainty, rounding))
    many = trial.on(rows(trial.sample, count, f"{count} rows", "large-input"))
    return replace(many, truth_of=truth)


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
