"""Processes for the tests, forked from one that has imported what takes seconds; several make a group."""

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from experiments.catalogue import EXPERIMENTS

LATE = (
    "experiments.parser",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "omegaconf.grammar_parser",
    "pytest",
    "sklearn.datasets",
    "torch._inductor.compile_fx",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "torch.export",
)
"""What is imported only by those who need it: once here, and not in each process."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([*(f"experiments.{name}.experiment" for name in EXPERIMENTS), *LATE])
TIMEOUT = 60
TURN = count()


def spawn(function: Callable[..., Any], size: int, folder: Path, *arguments: Any) -> list[Any]:
    """Run ``function(rank, *arguments)`` in `size` processes of one gloo group; return what each returns.

    A process that raises fails the test with its traceback; one that hangs is ended.
    """
    settings = (function, size, str(folder), arguments)
    context: Any = start_processes(_run, settings, size, join=False, start_method="forkserver")
    try:
        # Raises the traceback of the first process that fails, and ends the others.
        finished = context.join(TIMEOUT)
        while not finished and any(process.is_alive() for process in context.processes):
            finished = context.join(TIMEOUT, 5)
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"result{rank}", weights_only=False) for rank in range(size)]


def _run(rank: int, function: Callable[..., Any], size: int, folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    _join(rank, size, f"{folder}/group")
    try:
        torch.save(function(rank, *arguments), f"{folder}/result{rank}")
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def regroup(rank: int, size: int, folder: str) -> bool:
    """Make a new group of the first `size` processes; return whether this one is in it."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    if rank >= size:
        return False
    _join(rank, size, f"{folder}/group{next(TURN)}")
    return True


def _join(rank: int, size: int, file: str) -> None:
    # A file and no port: nothing else on the machine can be in the way.
    timeout = timedelta(seconds=TIMEOUT)
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=size, timeout=timeout
    )
