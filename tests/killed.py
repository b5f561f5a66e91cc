"""Runs experiments in processes that are killed at random moments, and resumed."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

from experiments import cli

# Forked from one process that has imported what takes seconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["experiments.compare.experiment", "experiments.study"])


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


def survive(name: str, options: list[str], out: Path, moments: list[float]) -> tuple[Path, int]:
    """Start an experiment, kill it after each of the moments and resume it, and let it end at last.

    Returns:
        The run's folder, and how often it was killed.
    """
    kills, folder = 0, out / name
    for seconds in [*moments, 600.0]:
        runs = [path for path in folder.glob("*") if (path / "config.yaml").exists()]
        resume = ["--resume", str(runs[0])] if runs else ["--out", str(out), *options]
        process = PROCESSES.Process(target=run_until, args=([name, *resume], seconds))
        process.start()
        process.join(300)
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
    return next(path for path in folder.iterdir() if (path / "config.yaml").exists()), kills
