"""Bad input: one line on stderr that names the argument, the value and what would work; exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments import catalogue, cli, configuration, options
from experiments.compare.options import EPOCHS, FAST_EPOCHS, Options
from experiments.parser import Parser
from experiments.run import Run

BAD = [
    (["--data", "mnst"], "--data: 'mnst'", "digits"),
    (["--text", "nowhere.txt"], "--data: 'nowhere.txt'", "no file"),
    (["--data", "openml:"], "--data: 'openml:'", "openml:NAME"),
    (["--model", "recurrent", "--data", "digits"], "--model: 'recurrent'", "convolution"),
    (["--model", "convolution", "--data=iris"], "--model: 'convolution'", "linear, slopes or perceptron"),
    (["--model", "transformer", "--model.heads", "5"], "--model.heads: 5", "--model.width 32"),
    (["--model.width", "0"], "--model.width: '0'", "from 1"),
    (["--updates", "5", "--seconds", "1"], "--seconds", "one budget"),
    (["--seconds", "0"], "--seconds: '0'", "above 0"),
    (["--variants", "batch,batch"], "--variants: 'batch,batch'", "once"),
    (["--batch-size", "8,x"], "--batch_size: 'x'", "from 1"),
    (["--trainer.strategy", "fsdp"], "--trainer.strategy: 'fsdp'", "ddp"),
    (["--config", "none.yaml"], "--config", "not exist"),
    (["--model", "resnet"], "--model: 'resnet'", "perceptron"),
    (["--accelerator", "tpu"], "--accelerator: 'tpu'", "cpu or cuda"),
    (["--lr", "0"], "--lr: '0'", "above 0"),
    (["--lr", "-0.1"], "--lr: '-0.1'", "above 0"),
    (["--lr", "-1e-3"], "--lr: '-1e-3'", "above 0"),
    (["--lr", "nan"], "--lr: 'nan'", "above 0"),
    (["--lr", "inf"], "--lr: 'inf'", "above 0"),
    (["--lr", "1e39"], "--lr: '1e39'", "float32 can hold; give at most 3.4e+38"),
    (["--lr", "batch=1e39"], "--lr: '1e39'", "at most"),
    (["--lr", "fast"], "--lr: 'fast'", "above 0"),
    (["--lr", "batch=0.1,sgd=1"], "--lr: 'sgd'", "stochastic"),
    (["--lr", "batch=x"], "--lr: 'x'", "above 0"),
    (["--epochs", "0"], "--epochs: '0'", "from 1"),
    (["--epochs", "2.5"], "--epochs: '2.5'", "from 1"),
    (["--seed", "-1"], "--seed: '-1'", "from 0"),
    (["--batch-size", "0"], "--batch_size: '0'", "from 1"),
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


@pytest.mark.parametrize("name", options.FETCHED)
def test_images_without_torchvision(name, capsys, monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda _: None)
    line = complaint(["--data", name], capsys)
    assert f"--data: '{name}' needs torchvision, which is missing: python -m pip install torchvision" in line
    assert options.SHIPPED in line
    monkeypatch.setattr(options, "find_spec", lambda _: "there")
    assert options.data_set(name) == name


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
    run = Run.create("complexity", str(tmp_path), Options())
    assert "is a run of complexity" in complaint(["--resume", str(run.folder)], capsys)


def test_resume_with_other_options(capsys, tmp_path):
    run = Run.create("compare", str(tmp_path), Options(epochs=7))
    assert "--epochs: 3 differs from the run's 7" in complaint(
        ["--resume", str(run.folder), "--epochs", "3"], capsys
    )


def test_config_holds_the_options(tmp_path):
    chosen = configuration.build(Options, {"fast": True, "lr": {"batch": 0.5}, "model.width": 5})
    run = Run.create("compare", str(tmp_path), chosen)
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config == {"experiment": "compare", **configuration.plain(chosen)}
    assert config["model"]["width"] == 5
    assert Run.reopen("compare", Options, str(run.folder), {"fast": True}).options == chosen
    assert Run.create("compare", str(tmp_path), chosen).folder != run.folder


def test_fast_shortens_unless_told_otherwise():
    assert configuration.build(Options, {}).budget == ("epochs", EPOCHS)
    assert configuration.build(Options, {"fast": True}).budget == ("epochs", FAST_EPOCHS)
    assert configuration.build(Options, {"fast": True, "epochs": 9}).budget == ("epochs", 9)
    assert configuration.build(Options, {"fast": True}).data.examples == 200
    assert configuration.build(Options, {"fast": True, "data.examples": 50}).data.examples == 50


def test_a_configuration_and_the_command_line_say_the_same(tmp_path):
    arguments = ["--model.width=7", "--lr", "batch=2", "--batch-size", "8,64", "--fast", "--text", __file__]
    given = Parser("p", "d", Options()).read(arguments)
    chosen = configuration.build(Options, given)
    assert chosen.model.name == "recurrent"
    assert (chosen.data.name, chosen.batch_size, chosen.lr) == (f"text:{__file__}", (8, 64), {"batch": 2.0})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"experiment": "compare", **configuration.plain(chosen)}))
    again = Parser("p", "d", Options()).read(["--config", str(tmp_path / "c.yaml"), "--model.width", "9"])
    assert again.pop("experiment") == "compare"
    assert configuration.build(Options, again).model.width == 9
    assert configuration.build(Options, again | {"model.width": 7}) == chosen


def test_print_config_is_a_configuration(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "--epochs", "5", "--print_config"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["model"]["width"] == 32
    (tmp_path / "c.yaml").write_text(text)
    given = Parser("p", "d", Options()).read(["--config", str(tmp_path / "c.yaml")])
    assert configuration.build(Options, given) == Options(epochs=5)


def test_print_config_is_of_what_would_be_run(capsys):
    for arguments, group, name in (
        (["convergence", "--data", "wine"], "problems", ["chosen"]),
        (["compare", "--model", "recurrent"], "data", "text"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*arguments, "--print_config"])
        found = yaml.safe_load(capsys.readouterr().out)[group]
        assert (found["name"] if isinstance(found, dict) else found) == name


def test_unknown_experiment(capsys):
    assert cli.main(["compar"]) == 2
    names = options.listing([*catalogue.EXPERIMENTS, *catalogue.COMMANDS])
    words = f"python -m experiments: 'compar' is no experiment; choose {names}\n"
    assert capsys.readouterr().err == words


def test_bare_command_lists_each_experiment_on_a_line(capsys):
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:] if line] == [*catalogue.EXPERIMENTS, *catalogue.COMMANDS]


def test_help_has_a_sentence_for_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split("options:")[1].split())
    for option in (
        "data.name",
        "model.name",
        "epochs",
        "seed",
        "lr",
        "batch_size",
        "trainer.accelerator",
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
