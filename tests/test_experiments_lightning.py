"""Lightning's own command line on the experiments' models and data."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import cli
from tests.processes import PROCESSES


def all_three(folder: str) -> None:
    """Train, validate and test, rightly and wrongly, in a folder with what is printed."""
    os.chdir(folder)
    warnings.simplefilter("ignore")
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream.fileno())
    common = ["--model", "perceptron", "--model.width=8", "--data=iris", "--trainer.accelerator", "cpu"]
    common += ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    optimizer = ["--optimizer", "MiniBatchGD", "--optimizer.lr", "0.5", "--optimizer.batch_size", "100"]
    assert cli.main(["fit", *common, *optimizer, "--trainer.max_epochs", "20"]) == 0
    (checkpoint,) = map(str, Path("checkpoints").glob("*.ckpt"))
    assert cli.main(["validate", *common, "--ckpt_path", checkpoint]) == 0
    assert cli.main(["test", *common, "--ckpt_path", checkpoint]) == 0
    torch.save({"state_dict": os.system}, "code.ckpt")
    for name in ("code.ckpt", "none.ckpt"):
        assert cli.main(["test", *common, "--ckpt_path", name]) == 2
    assert cli.main(["test", *common, "--model.width", "4", "--ckpt_path", checkpoint]) == 2
    assert cli.main(["fit", "--model", "convolution", "--data", "iris"]) == 2
    wild = ["--data", "diabetes", "--model", "linear", "--optimizer.lr", "1e30"]
    assert cli.main(["fit", *common, *optimizer, *wild, "--trainer.max_epochs", "5"]) == 2
    cli.main(["fit", *common, *optimizer, "--print_config"])


@pytest.mark.slow
def test_fit_validate_and_test(tmp_path):
    process: Any = PROCESSES.Process(target=all_three, args=(str(tmp_path),))
    process.start()
    process.join(300)
    out, err = ((tmp_path / name).read_text(encoding="utf-8") for name in ("out", "err"))
    assert process.exitcode == 0, err
    scores = [float(line.split("│")[2]) for line in out.splitlines() if "/score" in line]
    assert len(scores) == 2
    assert min(scores) > 0.6
    assert "name: perceptron" in out
    assert "class_path: torch_backprop.optim.MiniBatchGD" in out
    for line in (
        "test: --ckpt_path: 'code.ckpt' is no checkpoint (UnpicklingError).",
        "test: --ckpt_path: 'none.ckpt' cannot be read: No such file or directory.",
        "is of another model; give the options of its own.",
        "fit: --model: 'convolution' does not read iris, which is table; choose linear",
        "give a smaller --optimizer.lr.",
    ):
        assert line in err
    assert "Traceback" not in err


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
