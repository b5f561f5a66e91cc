"""Looks for the smallest sample that shows a fault: a reader should not have to read fifty numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .faults import CAPABILITY, FAULTS
from .outcome import random
from .probe import Probe
from .samples import resized
from .trial import Evidence, Trial

_SIZES = (1, 2)
_CUT = ", cut down"
_MANY = 1000
"""Elements of samples that are large on purpose, and stay so."""


def smallest(trial: Trial, probe: Probe, evidence: Evidence) -> tuple[Trial, Evidence]:
    """The trial on the smallest sample on which the probe sees the same fault, and what it sees there."""
    if probe.compiles or FAULTS[evidence.fault].verdict == CAPABILITY:
        return trial, evidence
    for length in _lengths(trial):
        for size in _SIZES:
            found = _seen(trial, probe, evidence.fault, length, size) if size < length else None
            if found is not None:
                trial, evidence = found
                break
    return trial, evidence


def _lengths(trial: Trial) -> Iterator[int]:
    lengths = {n for x in trial.sample.inputs.values() for n in x.shape}
    small = all(x.numel() <= _MANY for x in trial.sample.tensors.values())
    yield from sorted(lengths, reverse=True) if small else ()


def _seen(trial: Trial, probe: Probe, fault: str, length: int, size: int) -> tuple[Trial, Evidence] | None:
    sample = resized(trial.sample, length, size)
    sample = replace(sample, name=f"{trial.sample.name.removesuffix(_CUT)}{_CUT}")
    given = sample if trial.sample is trial.given else trial.given
    smaller = replace(trial.on(sample), given=given)
    try:
        if smaller.truth(random).error is not None:
            return None
        found = [evidence for evidence in probe.look(smaller) if evidence.fault == fault]
    except Exception:
        return None
    return (smaller, found[0]) if found else None
