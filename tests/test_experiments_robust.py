"""What goes wrong around a run: one clear line, and nothing that was measured is lost."""

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from experiments import cli, run
from experiments.compare.options import Options
from experiments.data import module, source, table
from experiments.data.source import DataError, Source

SMALL = ["--data", "iris", "--variants", "batch,mini-batch", "--lr", "0.5", "--epochs", "2", "--fast"]


@pytest.fixture(autouse=True)
def _signals(monkeypatch):
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)


def compare(out, *arguments):
    code = cli.main(["compare", "--out", str(out), *SMALL, *arguments])
    return code, next((out / "compare").iterdir())


def outcomes(folder):
    found = json.loads((folder / "state.json").read_text())["outcomes"]
    for outcome in found.values():
        for point in outcome["points"]:
            point.pop("seconds")
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    assert cli.main(["compare", "--out", str(out), *SMALL]) == 0
    return next((out / "compare").iterdir())


@pytest.fixture
def half(finished, tmp_path):
    """A copy of the run, stopped before its second training was on record."""
    folder = tmp_path / "half"
    shutil.copytree(finished, folder)
    state = json.loads((folder / "state.json").read_text())
    del state["outcomes"]["mini-batch-32"]
    (folder / "state.json").write_text(json.dumps(state | {"noises": []}))
    return folder


def spoil_nothing(path):
    pass


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill_with_noise(path):
    path.write_bytes(os.urandom(1000))


def put_code_in(path):
    torch.save({"callbacks": os.system}, path)


def leave_another_model(path):
    kept = torch.load(path, weights_only=True)
    kept["state_dict"] = {name: values[:1] for name, values in kept["state_dict"].items()}
    torch.save(kept, path)


def leave_another_rate(path):
    kept = torch.load(path, weights_only=True)
    kept["callbacks"]["Measurement"]["outcome"]["lr"] = 7.0
    torch.save(kept, path)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (spoil_nothing, ""),
        (cut_in_half, "cannot be read"),
        (fill_with_noise, "cannot be read"),
        (put_code_in, "cannot be read (UnpicklingError)"),
        (leave_another_model, "is of another training"),
        (leave_another_rate, "is of another training"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_set_aside(spoil, line, half, finished, capsys):
    path = half / "checkpoints/mini-batch-32.ckpt"
    spoil(path)
    assert cli.main(["compare", "--resume", str(half)]) == 0
    written = capsys.readouterr().err
    assert line in written
    assert written.count("\n") == bool(line)
    assert path.with_name("mini-batch-32.ckpt.set-aside").exists() == bool(line)
    assert outcomes(half) == outcomes(finished)


def test_a_state_that_cannot_be_read_is_set_aside(half, finished, capsys):
    cut_in_half(half / "state.json")
    assert cli.main(["compare", "--resume", str(half)]) == 0
    assert "state.json cannot be read: kept as state.json.set-aside" in capsys.readouterr().err
    assert outcomes(half) == outcomes(finished)


@pytest.mark.parametrize("name", ["state.json", "metrics.csv", "report.html", "batch.ckpt"])
def test_a_full_disk_is_one_line_and_costs_nothing(name, tmp_path, finished, monkeypatch, capsys):
    replace = os.replace

    def full(source, target):
        if str(target).endswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(run.os, "replace", full)
        code, folder = compare(tmp_path)
    assert code == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "No space left on device" in line
    assert f"--resume {folder}" in line
    assert not list(folder.rglob(".*.partial"))
    assert cli.main(["compare", "--resume", str(folder)]) == 0
    assert outcomes(folder) == outcomes(finished)


def test_a_full_disk_at_the_start_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run.os, "replace", full)
    with pytest.raises(SystemExit) as stop:
        compare(tmp_path)
    assert stop.value.code == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_killed_before_its_settings_are_written_leaves_no_folder_that_is_none(tmp_path, monkeypatch):
    def killed(source, target):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(run.os, "replace", killed)
        with pytest.raises(SystemExit):
            run.Run.create("compare", str(tmp_path), Options())
    (left,) = (tmp_path / "compare").iterdir()
    assert left.name.startswith(".")
    other = left.with_name(f".notes-{'0' * 32}.partial")
    other.mkdir()
    (other / "thoughts.txt").touch()
    made = [run.Run.create("compare", str(tmp_path), Options()).folder]
    # It may be of a process at work, until it is older than any can be.
    assert left.is_dir()
    for folder in (left, other):
        os.utime(folder, (0, 0))
    made.append(run.Run.create("compare", str(tmp_path), Options()).folder)
    assert set((tmp_path / "compare").iterdir()) == {*made, other}


def test_a_run_of_before_is_not_taken_away(tmp_path, monkeypatch, capsys):
    made = run.Run.create("compare", str(tmp_path), Options())

    def offline(*_):
        raise DataError("offline")

    monkeypatch.setattr(module, "shipped", offline)
    assert cli.main(["compare", "--resume", str(made.folder)]) == 1
    assert f"--resume {made.folder}" in capsys.readouterr().err
    assert (made.folder / "config.yaml").exists()


def test_a_full_disk_in_a_thread_is_said_once(capsys):
    def failure(error):
        return threading.ExceptHookArgs((type(error), error, None, threading.current_thread()))

    cli.in_thread(failure(OSError(errno.ENOSPC, "full")))
    assert capsys.readouterr().err == ""
    cli.in_thread(failure(ValueError("wrong")))
    assert "ValueError: wrong" in capsys.readouterr().err


def test_a_missing_run_is_one_line(tmp_path, capsys):
    assert cli.main(["open", str(tmp_path / "none")]) == 2
    assert "has no report.html" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "none")]) == 2
    assert "is no run with measurements" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "--resume", str(tmp_path / "none")])
    assert stop.value.code == 2
    assert "is not a run" in capsys.readouterr().err


def test_open_and_report(finished, half, capsys):
    assert cli.main(["open", str(finished)]) == 0
    assert capsys.readouterr().out == f"{finished}/report.html\n"
    config = yaml.safe_load((half / "config.yaml").read_text())
    (half / "config.yaml").write_text(yaml.safe_dump(config | {"repeats": 2}))
    assert cli.main(["report", str(half), str(finished)]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8")
    assert "2 runs, 4 series. The lowest cost at the end is" in page
    assert page.count("<svg") == 4
    assert "<td>repeats</td><td>2</td><td>1</td>" in page


def classes(x, y):
    return Source(np.asarray(x, dtype=float), np.asarray(y), len(set(y)), "classes")


def test_data_that_would_spoil_every_training(monkeypatch):
    x = np.arange(30.0).reshape(15, 2)
    y = np.array([0] * 8 + [1] * 7)
    x[3, 1] = x[4, 0] = np.nan
    with pytest.raises(DataError, match="openml:t: 2 of the inputs, in 2 rows, are NaN or infinite"):
        source.check("openml:t", classes(x, y))
    x = np.nan_to_num(x)
    source.check("openml:t", classes(x, y))
    with pytest.raises(DataError, match="class 1 has 4 of the 15 examples: a part would have none"):
        source.check("openml:t", classes(x, [0] * 11 + [1] * 4))
    with pytest.raises(DataError, match="all examples are of one class"):
        source.check("openml:t", classes(x, [0] * 15))
    with pytest.raises(DataError, match="1 of the targets"):
        source.check("d", Source(x, np.array([np.inf] + [0.0] * 14), 1, "values"))


def test_nan_in_the_data_is_one_line(tmp_path, monkeypatch, capsys):
    def spoilt(name):
        found = table.shipped(name)
        found.x[5, 2] = np.nan
        return found

    monkeypatch.setattr(module, "shipped", spoilt)
    assert cli.main(["compare", "--out", str(tmp_path), *SMALL]) == 2
    line = capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert line.startswith("python -m experiments compare: --data: iris: 1 of the inputs, in 1 rows, are NaN")
    assert line.count("\n") == 1


@pytest.mark.parametrize("name", ["mnist", "cifar10", "openml:adult"])
def test_offline_says_what_is_missing_and_what_ships(name, monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(table.sklearn.datasets, "fetch_openml", offline)
    with pytest.raises(DataError, match="text ship with what is installed") as stop:
        module.load(name, 100, 8, 0)
    assert str(stop.value).count("\n") == 0
    assert ("torchvision" in str(stop.value)) == (name != "openml:adult" and not _has_torchvision())


def _has_torchvision():
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return False
    return True


def test_openml_tables_become_sources(monkeypatch):
    found = [np.arange(40.0).reshape(20, 2), np.array(["a", "b"] * 10)]
    monkeypatch.setattr(table.sklearn.datasets, "fetch_openml", lambda *_, **__: tuple(found))
    data = module.Data("openml:toy", seed=1)
    assert (data.outputs, data.kind, len(data.parts["train"].x)) == (2, "classes", 12)
    assert {len(part.y.unique()) for part in data.parts.values()} == {2}
    found[1] = np.array(["a", None, float("nan"), "b"] * 5, dtype=object)
    with pytest.raises(DataError, match="10 of the targets are missing"):
        module.Data("openml:toy")
    found[1] = np.arange(20.0)
    assert module.Data("openml:toy").regression
    found[0] = np.array([["x", "1"]] * 20)
    with pytest.raises(DataError, match="a column is no number"):
        module.Data("openml:toy")


def test_a_run_goes_on_only_with_its_own_options(tmp_path):
    made = run.Run.create("compare", str(tmp_path), Options(epochs=2))
    assert run.Run.reopen("compare", Options, str(made.folder), {"epochs": 2}).options == made.options
