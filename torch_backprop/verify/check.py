"""check and assert_correct: the verifier's two callables."""

from __future__ import annotations

import time
from typing import Any

import torch

from .examine import examine, plan
from .report import Report
from .sample import given
from .settings import kept
from .target import target
from .trial import Trial
from .truth import Truth, in_place, own_forward


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
        inputs: the one sample that a user would write: tensors and other arguments. Gradients are asked
            of the tensors that require them, or of all floating-point tensors if none does.
        reference: what is right, called with the same inputs. Default: the candidate's own forward under
            built-in autograd, which judges the backward pass alone.
        quick: the few probes that find most.
        limit: seconds after which a candidate is ended as hanging.
        seed: of the random numbers.
        isolate: run in a process of its own, which a candidate may kill.
        compile: hold torch.compile's numbers against the eager ones too, which takes seconds.

    Raises:
        TypeError: candidate or reference cannot be called.
        ValueError: the inputs are refused, or none can have a gradient.
    """
    start = time.perf_counter()
    tested = target(candidate)
    sample = given(inputs, tested.module).to(torch.float64)
    with kept():
        if reference is None:
            truth = own_forward(tested, sample)
        else:
            truth = Truth(in_place(target(reference), sample))
        trial = Trial(in_place(tested, sample), truth, sample, sample)
        notes: list[str] = []
        steps = plan(trial, quick, compile and not quick)
        findings = tuple(examine(trial, steps, lambda number: None, notes.append))
    return Report(tested.name, findings, tuple(notes), time.perf_counter() - start)


def assert_correct(candidate: Any, *inputs: Any, **options: Any) -> None:
    """As :func:`check`, and raises with the report unless it is ok.

    Raises:
        AssertionError: faults were found.
    """
    report = check(candidate, *inputs, **options)
    if not report.ok:
        raise AssertionError(str(report))
