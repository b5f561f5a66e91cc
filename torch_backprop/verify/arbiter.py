"""Asks a third party where candidate and reference differ: the slope of the reference's forward.

Built-in gradients are not always accurate to rounding (a constant held in float32, a few terms of a series),
and some are wrong; who agrees with the function itself is right.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .differences import pairing, ridders
from .outcome import random
from .trial import Trial
from .truth import Truth, by_hand

_INACCURATE = 1e-5
"""Relative error up to which a reference is inaccurate; beyond, its gradient is wrong."""


def calibrated(trial: Trial) -> Trial:
    """The trial with a truth that knows its own inaccuracy on the sample as given.

    Of a reference that is written by hand, and whose gradient is not the slope of its forward at all, only
    that slope is left as truth. Where autograd's own is not, it is meant so: a row of padding, a detach.
    """
    if trial.seen().error is not None or not trial.truth_of.judges_forward:
        return trial
    for difference in trial.differences():
        leaf, seen = difference.leaf, difference.seen
        wrong = difference.relative > _INACCURATE
        if leaf is None or seen is None or (wrong and not by_hand(trial.truth_of.target, trial.sample)):
            continue
        if not is_off(trial, leaf, seen, difference.expected):
            continue
        trial.note(f"the reference's own {difference.what} is off by {difference.relative:.1g}")
        if wrong:
            return replace(trial, truth_of=trial.truth_of.by_differences(trial.sample.dtype), _known={})
        truth = replace(trial.truth_of, uncertainty=max(trial.truth_of.uncertainty, difference.relative))
        trial = replace(trial, truth_of=truth, _known={})
    return trial


def is_off(trial: Trial, leaf: str, seen: Tensor, expected: Tensor) -> bool:
    """Whether the slope of the reference's forward is the candidate's, and not the reference's own."""
    truth, sample = trial.truth_of, trial.sample
    if truth.numeric or sample.dtype not in (torch.float64, torch.complex128):
        return False
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(seen.shape, generator=generator, dtype=seen.dtype).to(seen.device)
    slope, uncertainty = ridders(lambda step: _value(truth, trial, leaf, step * direction))
    ours, theirs = (abs(float((g * direction.conj()).sum().real) - slope) for g in (seen, expected))
    return bool(10 * max(ours, uncertainty) < theirs)


def _value(truth: Truth, trial: Trial, leaf: str, shift: Tensor) -> Tensor:
    moved = trial.sample.changed("", "", lambda _, x: x + shift, (leaf,))
    return pairing(truth.target, moved, random, trial.truth().live)
