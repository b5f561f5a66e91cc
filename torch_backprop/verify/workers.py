"""Verifies several targets at a time."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from .report import Report

Job = tuple[str, Callable[[], Report]]

_jobs: list[Job] = []


def run_all(jobs: Sequence[Job], at_a_time: int = 0) -> Iterator[Report]:
    """The reports in the order of the jobs.

    Args:
        jobs: names, and what to run.
        at_a_time: how many processes; 0: one for each core. One, where processes cannot fork or CUDA is used.

    Raises:
        TypeError: a target cannot be verified.
        ValueError: a target cannot be verified.
    """
    count = min(at_a_time or os.cpu_count() or 1, len(jobs))
    if count < 2 or sys.platform in ("win32", "darwin") or torch.cuda.is_initialized():
        yield from map(_run, jobs)
        return
    # the workers are forks and inherit the jobs, which need no pickling then
    _jobs[:] = jobs
    with multiprocessing.get_context("fork").Pool(count, partial(torch.set_num_threads, 1)) as pool:
        yield from pool.imap(_numbered, range(len(jobs)))


def _numbered(number: int) -> Report:
    return _run(_jobs[number])


def _run(job: Job) -> Report:
    name, verify = job
    try:
        return verify()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
