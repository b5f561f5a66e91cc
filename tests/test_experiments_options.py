"""Bad input: one line on stderr that names the argument, the value and what would work; exit code 2."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from experiments import cli, options
from experiments.run import Run

BAD = [
    (["--data", "mnist"], "--data: 'mnist'", "digits"),
    (["--model", "resnet"], "--model: 'resnet'", "perceptron"),
    (["--accelerator", "tpu"], "--accelerator: 'tpu'", "cpu or cuda"),
    (["--lr", "0"], "--lr: '0'", "above 0"),
    (["--lr", "-0.1"], "--lr: '-0.1'", "above 0"),
    (["--lr", "-1e-3"], "--lr: '-1e-3'", "above 0"),
    (["--lr", "nan"], "--lr: 'nan'", "above 0"),
    (["--lr", "inf"], "--lr: 'inf'", "above 0"),
    (["--lr", "fast"], "--lr: 'fast'", "above 0"),
    (["--lr", "batch=0.1,sgd=1"], "--lr: 'sgd'", "stochastic"),
    (["--lr", "batch=x"], "--lr: 'x'", "above 0"),
    (["--epochs", "0"], "--epochs: '0'", "from 1"),
    (["--epochs", "2.5"], "--epochs: '2.5'", "from 1"),
    (["--seed", "-1"], "--seed: '-1'", "from 0"),
    (["--batch-size", "0"], "--batch-size: '0'", "from 1"),
    (["--epcohs", "3"], "--epcohs", "--epochs"),
    (["extra"], "extra", "--data"),
    (["--out", ""], "--out: ''", "path"),
    (["--resume", ""], "--resume: ''", "path"),
]


def complaint(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *arguments])
    written = capsys.readouterr()
    assert stop.value.code == 2
    assert written.out == ""
    assert written.err.count("\n") == 1
    return written.err


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)


@pytest.mark.parametrize(("arguments", "names", "advice"), BAD, ids=lambda value: str(value))
def test_bad_input_is_one_line_and_leaves_nothing(arguments, names, advice, capsys, tmp_path):
    line = complaint(arguments, capsys)
    assert names in line
    assert advice in line
    assert not list(tmp_path.iterdir())


def test_cuda_without_cuda(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--accelerator: 'cuda'" in complaint(["--accelerator", "cuda"], capsys)


def test_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"--out: '{tmp_path}/file/runs'" in complaint(["--out", f"{tmp_path}/file/runs"], capsys)
    assert f"--out: '{tmp_path}/file'" in complaint(["--out", f"{tmp_path}/file"], capsys)


@pytest.mark.parametrize("config", [None, "", "- a list", "experiment: compare\nspeed: 3", "{", "\0"])
def test_resume_of_what_is_no_run(config, capsys, tmp_path):
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    assert f"--resume: '{tmp_path}' is not a run" in complaint(["--resume", str(tmp_path)], capsys)


def test_resume_of_another_experiment(capsys, tmp_path):
    run = Run.create("complexity", str(tmp_path), options.Options())
    assert "is a run of complexity" in complaint(["--resume", str(run.folder)], capsys)


def test_resume_with_other_options(capsys, tmp_path):
    run = Run.create("compare", str(tmp_path), options.Options(epochs=7))
    assert "--epochs: 3 differs from the run's 7" in complaint(
        ["--resume", str(run.folder), "--epochs", "3"], capsys
    )


def test_config_holds_the_options(tmp_path):
    chosen = options.Options.of({"fast": True, "lr": {"batch": 0.5}})
    run = Run.create("compare", str(tmp_path), chosen)
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config == {"experiment": "compare", **asdict(chosen)}
    assert Run.reopen("compare", str(run.folder), {"fast": True}).options == chosen
    assert Run.create("compare", str(tmp_path), chosen).folder != run.folder


def test_fast_shortens_unless_told_otherwise():
    assert options.Options.of({}).epochs == options.EPOCHS
    assert options.Options.of({"fast": True}).epochs == options.FAST_EPOCHS
    assert options.Options.of({"fast": True, "epochs": 9}).epochs == 9


def test_unknown_experiment(capsys):
    assert cli.main(["compar"]) == 2
    names = "compare, benchmark, coverage or verifiers"
    words = f"python -m experiments: 'compar' is no experiment; choose {names}\n"
    assert capsys.readouterr().err == words


def test_bare_command_lists_each_experiment_on_a_line(capsys):
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(cli.EXPERIMENTS)


def test_help_has_a_sentence_for_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split("options:")[1].split())
    for option in (
        "data",
        "model",
        "epochs",
        "seed",
        "lr",
        "batch-size",
        "accelerator",
        "fast",
        "out",
        "resume",
    ):
        described = text.split(f"--{option} ")[1].split(" --")[0]
        assert described.endswith(".")


def test_command_line_is_quick_and_complains_to_stderr():
    command = [sys.executable, "-X", "importtime", "-m", "experiments", "compare", "--lr", "0"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--lr: '0'" in done.stderr
    assert "torch" not in done.stderr
