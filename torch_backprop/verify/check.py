"""check and assert_correct: the verifier's two callables."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from .arbiter import calibrated
from .arguments import accepted, same_parameters, same_structure
from .examine import Step, examine, plan
from .finding import Finding
from .isolate import Prepare, can_fork, isolated, preload
from .report import Report
from .sample import Sample, given
from .settings import kept
from .target import Target, target
from .trial import Note, Trial
from .truth import Truth, in_place, own_forward

_SHARED = "run in this process, which cannot be forked: a crash or a hang ends it"
_UNJUDGED = "no reference was given: the forward pass is the truth, and was not judged"


def check(
    candidate: Any,
    *inputs: Any,
    reference: Any = None,
    quick: bool = False,
    limit: float = 60.0,
    seed: int = 0,
    isolate: bool = True,
    compile: bool = True,
) -> Report:
    """Holds the backward pass of ``candidate`` against autograd.

    Args:
        candidate: a function, an autograd.Function (or its ``apply``), or an nn.Module.
        inputs: the one sample a user would write. Gradients are asked of the tensors that require them,
            or of all floating-point tensors if none does; numbers are judged in float64.
        reference: what is right, for the same inputs. Default: the candidate's own forward.
        quick: only the probes and samples that find most.
        limit: seconds after which a candidate in a process of its own is ended as hanging.
        seed: of the global random numbers.
        isolate: run in a process of its own, which the candidate may kill.
        compile: also hold torch.compile against eager, which takes seconds; not if ``quick``.

    Raises:
        TypeError: ``candidate`` or ``reference`` cannot be called.
        ValueError: the inputs are refused, or the reference has other parameters or outputs.
    """
    start = time.perf_counter()
    tested = target(candidate)
    right = None if reference is None else target(reference, "reference")
    sample = given(inputs, tested.module)
    same_parameters(tested, right)
    notes = [] if right else [_UNJUDGED]

    def prepare(note: Note) -> tuple[Trial, list[Step]]:
        torch.manual_seed(seed)
        with kept():
            trial = calibrated(replace(_trial(tested, right, sample), note=note))
            return trial, plan(trial, quick, compile and not quick)

    preload(quick)
    if isolate and can_fork(sample.tensors.values()):
        found = tuple(isolated(prepare, limit, notes.append))
    else:
        notes += [_SHARED] if isolate else []
        found = _here(prepare, notes.append)
    return Report(tested.name, found, tuple(dict.fromkeys(notes)), time.perf_counter() - start)


def _here(prepare: Prepare, note: Note) -> tuple[Finding, ...]:
    with kept():
        return tuple(examine(*prepare(note), lambda number: None))


def assert_correct(candidate: Any, *inputs: Any, **options: Any) -> None:
    """As :func:`check`, and raises unless the report is ok.

    Args:
        candidate: as for :func:`check`.
        inputs: as for :func:`check`.
        options: as for :func:`check`.

    Raises:
        AssertionError: faults were found; its words are the report.
        TypeError: as :func:`check`.
        ValueError: as :func:`check`.
    """
    report = check(candidate, *inputs, **options)
    if not report.ok:
        raise AssertionError(str(report))


def _trial(tested: Target, right: Target | None, sample: Sample) -> Trial:
    sample = accepted(tested, right, sample)
    tested = in_place(tested, sample)
    if right is None:
        return Trial(tested, own_forward(tested, sample), sample, sample)
    truth = Truth(in_place(right, sample))
    same_structure(tested, truth.target, sample)
    return Trial(tested, truth, sample, sample)
