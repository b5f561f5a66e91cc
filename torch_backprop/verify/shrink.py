"""Looks for the smallest sample that shows a fault: a reader should not have to read fifty numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .diagnosis import UNRECOGNISED
from .faults import CAPABILITY, FAULTS
from .outcome import random, run
from .probe import Probe
from .sample import CUT, Sample
from .samples import derived, resized
from .trial import Evidence, Trial

_SIZES = (1, 2)
_SIZED = ("size-factor",)
"""Of these the sizes are the evidence: where two of them are equal, nobody could tell which."""
_MANY = 1000
"""Elements of samples that are large on purpose, and stay so."""


def smallest(trial: Trial, probe: Probe, evidence: Evidence) -> tuple[Trial, Evidence]:
    """The trial on the smallest sample on which the probe sees the same fault, and what it sees there."""
    if evidence.fault in _SIZED or probe.compiles or FAULTS[evidence.fault].verdict == CAPABILITY:
        return trial, evidence
    for length in _lengths(trial):
        for size in _SIZES:
            found = _seen(trial, probe, evidence, length, size) if size < length else None
            if found is not None:
                trial, evidence = found
                break
    return trial, evidence


def _lengths(trial: Trial) -> Iterator[int]:
    lengths = {n for x in trial.sample.inputs.values() for n in x.shape}
    small = all(x.numel() <= _MANY for x in trial.sample.tensors.values())
    yield from sorted(lengths, reverse=True) if small else ()


def _seen(
    trial: Trial, probe: Probe, known: Evidence, length: int, size: int
) -> tuple[Trial, Evidence] | None:
    given = resized(trial.given, length, size)
    if run(trial.candidate, given).stage == "forward":
        return None
    # cut and derived again, not derived and cut: so can whoever has the given sample alone
    for sample in _named(trial, given):
        label = sample.name if sample.name.endswith(CUT) else f"{sample.name}{CUT}"
        smaller = replace(trial.on(replace(sample, name=label)), given=given)
        if sample is given:
            smaller = replace(smaller, given=smaller.sample)
        try:
            if smaller.truth(random).error is not None:
                continue
            found = [seen for seen in probe.look(smaller) if seen.fault == known.fault]
        except Exception:
            continue
        if found and not _says_less(found[0], known):
            return smaller, found[0]
    return None


def _says_less(small: Evidence, evidence: Evidence) -> bool:
    """Whether the error has lost its shape, as where the truth of a single row vanishes."""
    return UNRECOGNISED in small.diagnosis and UNRECOGNISED not in evidence.diagnosis


def _named(trial: Trial, given: Sample) -> Iterator[Sample]:
    """The samples of the trial's name, from another given one."""
    if trial.sample is trial.given:
        return iter([given])
    name = trial.sample.name.removesuffix(CUT)
    return (sample for sample in derived(given, trial.candidate.module, quick=False) if sample.name == name)
