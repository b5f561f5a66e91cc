"""Runs experiments in processes that are killed at random moments, and resumed."""

import csv
import os
import re
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


def promised(run: Path) -> None:
    """Hold a run's folder to what every experiment leaves."""
    files = {"config.yaml", "environment.yaml", "metrics.csv", "report.html"}
    assert files <= {path.name for path in run.iterdir()}
    # A sweep's are those of its runs.
    assert list(run.glob("**/events/**/events.out.*"))
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        assert list(csv.DictReader(file))
    text = (run / "report.html").read_text(encoding="utf-8")
    # It needs nothing but itself, and its colours are the page's.
    assert not re.search(r"(src|href)=[\"'](?!#|runs/)|url\((?!#)|@import|<script|<link", text)
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{6}", body.replace("url(#", ""))
    assert str(run.parent) not in text
    assert os.uname().nodename not in (run / "environment.yaml").read_text(encoding="utf-8").split()
    assert not re.search(r"\bnan\b", re.sub(r"<svg.*?</svg>", "", body, flags=re.DOTALL))
    # No figure without a sentence before it.
    assert "<svg" in body
    assert all("<p" in part for part in body.split("<h2>")[1:])
    assert not list(run.rglob(".*.partial"))
