"""The sweep: its grid, that a failed run ends no other, and that a stop and a restart cost nothing."""

import csv
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed import promised

from experiments import cli
from experiments.catalogue import options_of
from experiments.configuration import build
from experiments.run import Run
from experiments.sweep import pool
from experiments.sweep.grid import grid
from tests.processes import PROCESSES

SMALL = ["--data", "iris", "--model", "linear", "--epochs", "1", "--repeats", "1", "--variants", "batch"]


@pytest.fixture(autouse=True)
def _elsewhere(signals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(folder: Path) -> dict[str, dict[str, str]]:
    if not (folder / "metrics.csv").exists():
        return {}
    with (folder / "metrics.csv").open() as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def touched(folder: Path) -> dict[str, int]:
    """When the runs last wrote down what they are."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/state.json")}


def test_the_grid_is_every_combination_and_the_options_of_each_are_a_comparisons() -> None:
    given = {"lr": (0.1, 1.0), "batch_size": (8, 16), "repeats": 2, "seed": 5, "updates": 7}
    jobs = grid(build(options_of("sweep"), given), Path("sweep"))
    assert len({job.folder for job in jobs}) == len(jobs) == (1 + 1 + 2) * 2 * 2
    assert jobs[0].folder == Path("sweep/runs/batch-rate-0.1-seed-5")
    last = jobs[-1]
    assert (last.name, last.lr, last.seed) == ("mini-batch-16-rate-1-seed-6", 1.0, 6)
    assert (last.options.variants, last.options.batch_size) == (("mini-batch",), (16,))
    assert (last.options.lr, last.options.budget) == ({"mini-batch": 1.0}, ("updates", 7))
    last.options.check()


def test_a_failed_run_is_reported_and_tried_again_and_finished_ones_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"data.name": "iris", "model.name": "linear", "epochs": 1, "repeats": 1, "processes": 2}
    given = build(options_of("sweep"), {**options, "variants": ("batch",), "lr": (0.1, 0.2, 1e38)})
    run = Run.create("sweep", "runs", given)
    broken = run.folder / "runs" / "batch-rate-0.2-seed-0" / "config.yaml"
    broken.parent.mkdir(parents=True)
    broken.write_text("nothing")
    assert cli.main(["sweep", "--resume", str(run.folder)]) == 1
    complaint = capsys.readouterr().err
    assert "1 of 3 runs failed, the first batch-rate-0.2-seed-0: " in complaint
    assert "is not a run" in complaint
    assert "Resume with: python -m experiments sweep --resume" in complaint
    assert {name: row["status"] for name, row in rows(run.folder).items()} == {
        "batch-rate-0.1-seed-0": "finished",
        "batch-rate-1e+38-seed-0": "diverged",
    }
    assert "What failed" in (run.folder / "report.html").read_text()
    before = touched(run.folder)
    broken.unlink()
    assert cli.main(["sweep", "--resume", str(run.folder)]) == 0
    after = touched(run.folder)
    assert after.items() > before.items()
    assert len(rows(run.folder)) == 3
    page = (run.folder / "report.html").read_text()
    assert "3 of 3 runs finished." in page
    assert "What failed" not in page
    assert cli.main(["open", str(run.folder / "runs" / "batch-rate-0.1-seed-0")]) == 0


def test_a_stop_and_a_restart_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def stop_after_the_first() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(map(rows, Path("runs").glob("sweep/*"))):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop_after_the_first, daemon=True).start()
    assert cli.main(["sweep", *SMALL, "--processes", "1", "--lr", "0.1,0.2,0.3"]) == 130
    (folder,) = Path("runs/sweep").glob("*")
    assert "Interrupted. Resume with" in capsys.readouterr().err
    finished = rows(folder)
    assert 1 <= len(finished) < 3
    before = {name: touched(folder)[name] for name in finished}
    assert cli.main(["sweep", "--resume", str(folder)]) == 0
    assert "batch does best at the highest rate tried: try higher ones too." in capsys.readouterr().out
    assert touched(folder).items() >= before.items()
    assert {name: row for name, row in rows(folder).items() if name in finished} == finished
    assert len(rows(folder)) == 3
    assert yaml.safe_load((folder / "config.yaml").read_text())["lr"] == [0.1, 0.2, 0.3]


def measured(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of a sweep, without what the clock says."""
    return {run: {key: row[key] for key in row if key != "seconds"} for run, row in rows(folder).items()}


def forking(arguments: list[str]) -> None:
    """Run a sweep whose processes are forked from this one, which has imported all."""
    pool._context = lambda: multiprocessing.get_context("fork")
    cli.main(arguments)


@pytest.mark.slow
def test_a_killed_run_and_a_killed_sweep_come_to_the_same_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SMALL, "--variants", "stochastic", "--epochs", "8", "--lr", "0.01,0.02"]

    wait = pool.connection.wait

    def kill_one(sentinels: Sequence[Any]) -> Any:
        monkeypatch.setattr(pool.connection, "wait", wait)
        time.sleep(random.uniform(0.0, 0.2))
        multiprocessing.active_children()[0].kill()
        return wait(sentinels)

    monkeypatch.setattr(pool.connection, "wait", kill_one)
    assert cli.main(["sweep", *options, "--processes", "1"]) == 1
    assert "ended by signal 9" in capsys.readouterr().err
    (folder,) = Path("runs/sweep").glob("*")
    assert len(rows(folder)) == 1
    sweep = PROCESSES.Process(target=forking, args=(["sweep", "--resume", str(folder.resolve())],))
    sweep.start()
    sweep.join(random.uniform(0.1, 2.0))
    sweep.kill()
    sweep.join()
    assert cli.main(["sweep", "--resume", str(folder)]) == 0
    assert cli.main(["sweep", *options, "--processes", "2", "--out", "alone"]) == 0
    (alone,) = Path("alone/sweep").glob("*")
    assert measured(folder) == measured(alone)
    promised(folder)


def test_one_budget(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--epochs", "1", "--updates", "2"])
    assert "--updates: cannot go with --epochs; give one budget" in capsys.readouterr().err
