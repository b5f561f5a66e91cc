"""Lightning's own command line on the experiments' models and data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli

ROOT = Path(__file__).parents[1]
# One process for all three, since Lightning takes seconds to come.
ALL_THREE = """
import sys
from experiments.cli import main

common = ["--model", "perceptron", "--model.width=8", "--data=iris", "--trainer.accelerator", "cpu"]
common += ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
optimizer = ["--optimizer", "MiniBatchGD", "--optimizer.lr", "0.5", "--optimizer.batch_size", "100"]
assert main(["fit", *common, *optimizer, "--trainer.max_epochs", "20"]) == 0
(checkpoint,) = __import__("pathlib").Path("checkpoints").glob("*.ckpt")
assert main(["validate", *common, "--ckpt_path", str(checkpoint)]) == 0
assert main(["test", *common, "--ckpt_path", str(checkpoint)]) == 0
assert main(["fit", *common, *optimizer, "--print_config"]) == 0
"""


@pytest.mark.slow
def test_fit_validate_and_test(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALL_THREE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    scores = [float(line.split("│")[2]) for line in done.stdout.splitlines() if "/score" in line]
    assert len(scores) == 2
    assert min(scores) > 0.6
    assert "name: perceptron" in done.stdout
    assert "class_path: torch_backprop.optim.MiniBatchGD" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "resnet"], "--model: 'resnet' is unknown; choose linear"),
        (["--data", "mnst"], "--data: 'mnst' is unknown; choose digits"),
        (["--optimizer", "MiniBatch"], "--optimizer: 'MiniBatch' is unknown; choose BatchGD, MiniBatchGD"),
    ],
)
def test_a_wrong_name_is_one_line(arguments, line, capsys, monkeypatch):
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)
    assert cli.main(["fit", *arguments]) == 2
    written = capsys.readouterr().err
    assert written.startswith(f"python -m experiments fit: {line}")
    assert written.count("\n") == 1
