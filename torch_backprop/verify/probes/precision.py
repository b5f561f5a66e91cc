"""Dtypes: accuracy as a ratio to the reference's own error, autocast, complex numbers, and devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..arbiter import is_off
from ..diagnosis import excerpt
from ..outcome import Outcome, random, run
from ..probe import probe
from ..sample import Sample
from ..spy import watching
from ..trial import Evidence, Trial, distance

_RATIO = 8
"""Times the reference's own error (or rounding) that a right low-precision gradient stays under."""
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@probe(sound=True, dear=True)
def dtypes(trial: Trial) -> Iterator[Evidence]:
    """float32 and half precision, against the truth in float64 on the same rounded numbers."""
    for dtype in _DTYPES if trial.sample.dtype == torch.float64 else ():
        low = trial.on(trial.sample.to(dtype))
        if trial.truth_of.numeric or low.truth().error is not None:
            continue
        with watching() as passes:
            seen = low.seen()
        if seen.error is not None:
            loud = seen.stage == "forward" and dtype != torch.float32
            fault = "refuses-input" if loud else "hard-coded-dtype"
            yield Evidence(fault, seen.words, "the reference returns", f"fails in {dtype}")
            continue
        yield from _dtypes_of(seen, low.truth(), dtype)
        for each in passes:
            for i, gradient, wanted in each.repaired():
                if gradient.dtype != wanted.dtype:
                    words = f"gradient {i} of a {dtype} input: the engine casts it"
                    yield Evidence("wrong-dtype", str(gradient.dtype), str(wanted.dtype), words)
        yield from _accuracy(low, trial.on(low.sample.to(torch.float64)).truth(), dtype)


def _dtypes_of(seen: Outcome, truth: Outcome, dtype: torch.dtype) -> Iterator[Evidence]:
    for i, (ours, theirs) in enumerate(zip(seen.outputs, truth.outputs, strict=False)):
        if ours.dtype != theirs.dtype:
            words = f"output {i} for {dtype} inputs"
            yield Evidence("wrong-dtype", str(ours.dtype), str(theirs.dtype), words)


def _accuracy(low: Trial, exact: Outcome, dtype: torch.dtype) -> Iterator[Evidence]:
    seen, builtin = low.seen(), low.truth()
    for name, ours, theirs, truth in _triples(seen, builtin, exact):
        judged = torch.where(theirs.isfinite(), truth, torch.nan)
        error, scale = distance(ours, judged)
        allowed = _RATIO * max(distance(theirs, judged)[0], torch.finfo(dtype).eps * scale)
        if error > allowed:
            words = f"{name} in {dtype}: error {error:.3g}, where {allowed / _RATIO:.3g} is usual"
            yield Evidence("low-precision", excerpt(ours), excerpt(truth), words)


def _triples(seen: Outcome, builtin: Outcome, exact: Outcome) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    for i, items in enumerate(zip(seen.outputs, builtin.outputs, exact.outputs, strict=False)):
        if items[2].is_floating_point():
            yield f"output {i}", *items
    for name, theirs in builtin.gradients.items():
        ours, truth = seen.gradients.get(name), exact.gradients.get(name)
        if ours is not None and theirs is not None and truth is not None and ours.shape == truth.shape:
            yield f"gradient of {name}", ours, theirs, truth


@probe(quick=False, sound=True)
def autocast(trial: Trial) -> Iterator[Evidence]:
    """Under autocast: the dtypes of the reference, and its accuracy."""
    if trial.truth_of.numeric:
        return
    cast = partial(torch.autocast, trial.sample.device.type, torch.bfloat16)
    low = replace(
        trial.on(trial.sample.to(torch.float32)),
        candidate=trial.candidate.within(cast),
        truth_of=replace(trial.truth_of, target=trial.truth_of.target.within(cast)),
    )
    truth, seen = low.truth(), low.seen()
    if truth.error is not None:
        return
    if seen.error is not None:
        yield Evidence("autocast", seen.words, "the reference returns", "fails under autocast")
        return
    for evidence in _dtypes_of(seen, truth, torch.float32):
        yield evidence._replace(fault="autocast", diagnosis=f"{evidence.diagnosis} under autocast")
        return
    exact = trial.on(low.sample.to(torch.float64)).truth()
    for evidence in _accuracy(low, exact, torch.bfloat16):
        yield evidence._replace(fault="autocast", diagnosis=f"{evidence.diagnosis} under autocast")


@probe(quick=False, sound=True)
def complex_numbers(trial: Trial) -> Iterator[Evidence]:
    """Over the complex numbers, in PyTorch's convention."""
    if trial.truth_of.numeric or trial.sample.dtype.is_complex:
        return
    complex_trial = trial.on(_complex(trial.sample))
    if complex_trial.truth().error is not None or not complex_trial.truth().live:
        return
    seen = complex_trial.seen()
    if seen.error is not None:
        yield Evidence("no-complex", seen.words, "the reference returns", "complex inputs are refused")
        return
    for difference in complex_trial.differences():
        leaf, found = difference.leaf, difference.seen
        if leaf and found is not None and is_off(complex_trial, leaf, found, difference.expected):
            continue
        conjugated = difference.seen is not None and complex_trial.near(
            difference.seen.conj(), difference.expected
        )
        why = "the conjugate of the truth" if conjugated else "a factor of the derivative is not conjugated"
        words = f"{difference.what} over the complex numbers: {why}"
        yield Evidence("missing-conjugate", excerpt(difference.seen), excerpt(difference.expected), words)
        return


def _complex(sample: Sample) -> Sample:
    def change(_: str, x: Tensor) -> Tensor:
        return torch.complex(x, random(x, 77) / 2) if x.is_floating_point() else x

    return sample.changed("complex", "missing-conjugate", change, tuple(sample.tensors))


@probe(quick=False, sound=True)
def devices(trial: Trial) -> Iterator[Evidence]:
    """Without memory (the meta device): a tensor made on a fixed device does not fit."""

    def away(_: str, x: Tensor) -> Tensor:
        return x.to("meta")

    moved = trial.sample.changed("meta", "hard-coded-device", away, tuple(trial.sample.tensors))
    if trial.truth_of.numeric or run(trial.truth_of.target, moved).error is not None:
        return
    seen = run(trial.candidate, moved)
    if seen.error is not None and "device" in str(seen.error):
        words = "a tensor is made on a fixed device"
        yield Evidence("hard-coded-device", seen.words, "the device of the input", words)
