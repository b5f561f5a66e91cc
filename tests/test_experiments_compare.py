"""The comparison from end to end: what it leaves, what it says, and that a stop costs nothing."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from killed import run_until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments import cli
from experiments.terminal import Bar
from tests.processes import PROCESSES

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "experiments", "compare"]
KEYS = ("batch", "stochastic", "mini-batch-32")
NAMES = ("batch", "stochastic", "mini-batch 32")


pytestmark = pytest.mark.usefixtures("signals")


def compare(out, *arguments):
    """Run in this process, and return the exit code and the run's folder."""
    code = cli.main(["compare", "--out", str(out), *arguments])
    return code, next((out / "compare").iterdir())


def table(run, name="metrics.csv", drop=("seconds",)):
    with (run / name).open() as file:
        return [{key: value for key, value in row.items() if key not in drop} for row in csv.DictReader(file)]


def outcomes(run):
    return json.loads((run / "state.json").read_text())["outcomes"]


def parameters(run):
    return {
        (path.name, name): values
        for path in (run / "checkpoints").glob("*.ckpt")
        for name, values in torch.load(path, weights_only=True)["state_dict"].items()
    }


def noises(run):
    return json.loads((run / "state.json").read_text())["noises"]


def assert_same(run, other):
    mine, theirs = parameters(run), parameters(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert table(run) == table(other)
    assert table(run, "sweep.csv") == table(other, "sweep.csv")
    assert noises(run) == noises(other)


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    out = tmp_path_factory.mktemp("fast")
    command = [*COMMAND, "--fast", "--data", "iris", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return next((out / "compare").iterdir()), done


def test_terminal_shows_sweep_table_and_report(fast):
    run, done = fast
    assert (done.returncode, done.stderr) == (0, "")
    assert "Learning rates tried" in done.stdout
    assert all(re.search(rf"^{name} .* 0\.\d{{4}} +[01]\.\d{{4}}$", done.stdout, re.M) for name in NAMES)
    assert f"{run}/report.html" in done.stdout
    assert max(map(len, done.stdout.split("Report")[0].splitlines())) <= 80


def test_every_promised_file_is_there(fast):
    run, _ = fast
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["name"] == "iris"
    described = yaml.safe_load((run / "environment.yaml").read_text())[0]
    assert described["torch"] == torch.__version__
    assert described["seed"] == 0
    assert os.uname().nodename not in described.values()
    assert {path.stem for path in (run / "checkpoints").iterdir()} == set(KEYS)
    assert len(table(run, "sweep.csv")) == 9
    rows = table(run)
    assert {row["variant"] for row in rows} == set(NAMES)
    assert [row["examples"] for row in rows if row["variant"] == "batch"] == ["0", "90", "180", "270"]


def test_tensorboard_events_can_be_read(fast):
    run, _ = fast
    for key, variant in zip(KEYS, NAMES, strict=True):
        events = EventAccumulator(str(run / "events" / key)).Reload()
        costs = [(str(event.step), event.value) for event in events.Scalars("cost")]
        rows = [(row["examples"], float(row["cost"])) for row in table(run) if row["variant"] == variant]
        assert costs == [(step, pytest.approx(cost)) for step, cost in rows]


def test_report_needs_nothing_but_itself(fast):
    run, _ = fast
    text = (run / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!#)|url\((?!#)|@import|<script|<link", text)
    assert str(run) not in text
    assert os.uname().nodename not in text
    assert text.count("<svg") == 8
    assert not re.search(r"#[0-9a-f]{6}", text.split("</style>")[1].replace("url(#", ""))


def test_report_says_what_was_held_equal(fast):
    run, _ = fast
    found = outcomes(run)
    assert len({outcome["start"] for outcome in found.values()}) == 1
    assert len({tuple(outcome["orders"]) for outcome in found.values()}) == 1
    assert len(found["batch"]["orders"]) == 3
    text = (run / "report.html").read_text()
    assert f"<code>{found['batch']['start']}</code>" in text
    assert "same initial parameters" in text


def test_each_variant_learns_digits(tmp_path):
    code, run = compare(tmp_path, "--epochs", "6", "--lr", "batch=3,stochastic=0.03,mini-batch=1")
    assert code == 0
    found = outcomes(run)
    assert {variant: outcome["points"][-1]["updates"] for variant, outcome in found.items()} == {
        "batch": 6,
        "stochastic": 6462,
        "mini-batch-32": 204,
    }
    assert all(outcome["score"] >= 0.93 for outcome in found.values())
    assert not table(run, "sweep.csv")


def test_a_diverged_variant_is_reported_and_the_others_go_on(tmp_path, capsys):
    rates = "batch=1e6,stochastic=0.001,mini-batch=0.01"
    code, run = compare(tmp_path, "--data", "diabetes", "--model", "linear", "--epochs", "20", "--lr", rates)
    assert code == 0
    found = outcomes(run)
    last = found["batch"]["last_finite_update"]
    assert last == found["batch"]["points"][-1]["updates"] > 0
    assert found["batch"]["score"] is None
    assert found["stochastic"]["score"] > 0.3
    assert found["mini-batch-32"]["score"] > 0.3
    line = f"batch diverged at learning rate 1e+06: its last finite update is number {last}."
    assert line in capsys.readouterr().out
    assert line in (run / "report.html").read_text()


def test_a_rate_that_all_variants_share_needs_no_sweep_and_may_ruin_all(tmp_path, capsys):
    code, run = compare(tmp_path, "--data", "diabetes", "--model", "linear", "--fast", "--lr", "1e30")
    assert code == 0
    assert all(outcome["last_finite_update"] is not None for outcome in outcomes(run).values())
    assert "No training has come to its end yet" in (run / "report.html").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return compare(tmp_path_factory.mktemp("whole"), "--fast", "--data", "wine")[1]


@pytest.mark.parametrize("moment", [1, 2, 12, 20, 26, 33])
def test_resume_to_the_last_bit(moment, whole, tmp_path, monkeypatch, capsys):
    moves = []
    move = Bar.move

    def stop_once(self, *arguments):
        moves.append(arguments)
        if len(moves) == moment:
            os.kill(os.getpid(), signal.SIGTERM if moment % 2 else signal.SIGINT)
        move(self, *arguments)

    monkeypatch.setattr(Bar, "move", stop_once)
    code, run = compare(tmp_path, "--fast", "--data", "wine")
    assert code == 130
    assert (
        capsys.readouterr().err == f"Interrupted. Resume with: python -m experiments compare --resume {run}\n"
    )
    assert {"report.html", "metrics.csv", "sweep.csv"} <= {path.name for path in run.iterdir()}
    assert cli.main(["compare", "--resume", str(run)]) == 0
    assert_same(run, whole)


def test_resume_of_a_finished_run_trains_nothing(whole, monkeypatch):
    before = (whole / "metrics.csv").read_text()
    monkeypatch.setattr("lightning.pytorch.Trainer.fit", None)
    assert cli.main(["compare", "--resume", str(whole)]) == 0
    assert (whole / "metrics.csv").read_text() == before


LONG = ["--epochs", "10", "--data", "wine", "--lr", "0.1"]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return compare(tmp_path_factory.mktemp("long"), *LONG)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_resumes_to_the_last_bit(number, long, tmp_path):
    arguments = ["compare", *LONG, "--out", str(tmp_path / "stopped")]
    process: Any = PROCESSES.Process(target=run_until, args=(arguments, 600.0))
    process.start()
    while not list(tmp_path.glob("*/*/*/checkpoints/stochastic.ckpt")) and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == (130 if number == signal.SIGINT else -number)
    run = next((tmp_path / "stopped/compare").iterdir())
    assert not (run / "checkpoints/mini-batch-32.ckpt").exists()
    assert cli.main(["compare", "--resume", str(run)]) == 0
    assert_same(run, long)
