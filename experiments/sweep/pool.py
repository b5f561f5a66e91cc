"""Some processes side by side, each with one run; one that fails, or is killed, takes no other with it."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from experiments.sweep.grid import Job

# Seconds that an interrupted run has to write down what it has measured.
GRACE = 20.0
LOG = "log.txt"


def work_off(jobs: Sequence[Job], processes: int, ended: Callable[[Job, int], None]) -> None:
    """Run all jobs, so many at a time.

    Args:
        jobs: What there is to run.
        processes: The number of runs at the same time.
        ended: Told of each job that has ended, and its exit code, which is negative if a signal ended it.
    """
    context = _context()
    waiting, working = list(jobs), {}
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                job = waiting.pop(0)
                arguments = job.prepare()
                process = context.Process(target=_work, args=(str(job.folder / LOG), arguments))
                process.start()
                working[process.sentinel] = job, process
            for sentinel in connection.wait(list(working)):
                job, process = working.pop(sentinel)
                process.join()
                ended(job, process.exitcode)
    finally:
        _stop([process for _, process in working.values()])


def last_words(job: Job) -> str:
    """Return the last line that a run has written."""
    log = job.folder / LOG
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it has written nothing")


def _context() -> Any:
    # A process of its own for each run, forked from one that has imported everything once.
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["experiments.compare.experiment"])
    return context


def _stop(processes: Sequence[Any]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)
        process.kill()


def _work(log: str, arguments: list[str]) -> None:
    from experiments import cli

    with Path(log).open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(cli.main(arguments))


def _end_with_parent() -> None:
    # A parent that was killed cannot end its runs, and a restart must not meet them at work.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
