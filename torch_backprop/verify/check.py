"""check and assert_correct: the verifier's two callables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from .arbiter import calibrated
from .arguments import accepted, same_parameters, same_structure
from .cost import metered
from .examine import Choice, Step, examine, only, plan
from .finding import Finding
from .isolate import Prepare, can_fork, isolated, preload
from .probe import PROBES
from .report import Report
from .sample import Sample, given
from .settings import kept
from .snippet import snippet
from .target import Target, target
from .trial import Note, Trial
from .truth import Truth, in_place, own_forward

_SHARED = "run in this process, which cannot be forked: a crash or a hang ends it"
_PARTIAL = "only the probes and samples that were named were looked at"
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
    tiny: bool = True,
    probes: Sequence[str] = (),
    samples: Sequence[str] = (),
) -> Report:
    """Holds the backward pass of ``candidate`` against autograd.

    Args:
        candidate: a function, an autograd.Function (or its ``apply``), or an nn.Module.
        inputs: the one sample a user would write. Gradients are asked of the tensors that require them,
            or of all floating-point tensors if none does; numbers are judged in float64.
        reference: what is right, for the same inputs. Default: the candidate's own forward.
        quick: only the probes and samples that find most. Where a call is expensive, as many of them are
            tried as take 0.3 s, or otherwise 2 s; the report says which were left out.
        limit: seconds after which a candidate in a process of its own is ended as hanging.
        seed: of the global random numbers.
        isolate: run in a process of its own, which the candidate may kill.
        compile: also hold torch.compile against eager, which takes seconds; not if ``quick``.
        tiny: also judge inputs far smaller than 1; not of what recovers its inputs from its outputs, to the
            rounding of those.
        probes: the names of the only probes to look, as in ``Finding.probe``. Default: all.
        samples: the names of the only samples to look at, as "as given" or "batch of one". Default: all.

    Raises:
        TypeError: ``candidate`` or ``reference`` cannot be called.
        ValueError: the inputs are refused, the reference has other parameters or outputs, ``limit`` is not
            positive, or ``probes`` or ``samples`` names none.
    """
    if limit <= 0:
        raise ValueError(f"limit: {limit} is no time; pass seconds above 0")
    tested = target(candidate)
    right = None if reference is None else target(reference, "reference")
    sample = given(inputs, tested.module)
    same_parameters(tested, right)
    choice = Choice(quick, compile, tiny, _names(probes), _names(samples))
    only("probes", choice.probes, [probe.name for probe in PROBES])
    notes = [_UNJUDGED] * (right is None) + [_PARTIAL] * bool(probes or samples)

    def prepare(note: Note) -> tuple[Trial, list[Step]]:
        torch.manual_seed(seed)
        with kept():
            trial = prepared(tested, right, sample, note)
            return metered(trial, quick), plan(trial, choice)

    preload(quick)
    start = time.perf_counter()
    if isolate and can_fork(sample.tensors.values()):
        found = isolated(prepare, limit, notes.append)
    else:
        notes += [_SHARED] if isolate else []
        found = _here(prepare, notes.append)
    findings = tuple(_scripted(finding, tested, right, sample, limit) for finding in found)
    return Report(tested.name, findings, tuple(dict.fromkeys(notes)), time.perf_counter() - start)


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _scripted(
    finding: Finding, tested: Target, right: Target | None, sample: Sample, limit: float
) -> Finding:
    """With a snippet, also where the candidate took with it the process that would have written one."""
    if finding.snippet:
        return finding
    probe = finding.probe if finding.probe in [probe.name for probe in PROBES] else ""
    return replace(finding, snippet=snippet(tested, right, sample, probe, finding.sample, limit=limit))


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


def prepared(tested: Target, right: Target | None, sample: Sample, note: Note) -> Trial:
    """The trial of a candidate on the sample as given, against the truth there is.

    Raises:
        ValueError: the candidate or the reference refuses the sample, or their outputs are others.
    """
    taken, found = accepted(tested, right, sample)
    if taken.dtype not in (torch.float64, torch.complex128):
        note(f"float64 is refused: numbers were judged in {taken.dtype}")
    tested, ours = in_place(tested, found[0], taken)
    if right is None:
        truth = own_forward(tested, ours, taken, note)
    else:
        right, theirs = in_place(right, found[1], taken)
        same_structure(ours, theirs, right.name)
        truth = Truth(right)
    return calibrated(Trial(tested, truth, taken, taken, note=note))
