"""Runs experiments in processes that are killed at random moments, and resumed."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from experiments import cli
from tests.processes import PROCESSES


def run_until(arguments: list[str], seconds: float) -> None:
    """Run an experiment here, and be killed when it has worked for so long."""
    begun = time.process_time()

    def kill() -> None:
        # By processor time, so that other processes on it do not count.
        while time.process_time() - begun < seconds:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    os._exit(cli.main(arguments))


def survive(
    name: str, options: list[str], out: Path, moments: list[float], see: Callable[[Path], object] = str
) -> tuple[Path, int]:
    """Start an experiment, kill it after each of the moments and resume it, and let it end at last.

    Args:
        name: the experiment's.
        options: those that it is started with.
        out: the folder that gathers its runs.
        moments: seconds of processor time.
        see: is shown the run's folder after each kill.

    Returns:
        The run's folder, and how often it was killed.
    """
    kills, folder = 0, out / name
    for seconds in [*moments, 600.0]:
        runs = list(folder.glob("[!.]*"))
        resume = ["--resume", str(runs[0])] if runs else ["--out", str(out), *options]
        process = PROCESSES.Process(target=run_until, args=([name, *resume], seconds))
        process.start()
        process.join(300)
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
        for run in runs:
            see(run)
    return next(folder.glob("[!.]*")), kills
