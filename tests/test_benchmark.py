"""The benchmark of the layers: what it measures, and what it prints."""

import csv
from pathlib import Path

import pytest
import torch

from experiments import cli
from experiments.benchmark.layers import ELEMENTS, Held, fastest, large, measure
from experiments.held import held_bytes
from torch_backprop.nn import SPECS

SPEC = {spec.layer.__name__: spec for spec in SPECS}


def test_what_a_linear_layer_holds() -> None:
    measured = measure(SPEC["Linear"], seconds=0)
    inputs = large(SPEC["Linear"]).draw(torch.float32)[0]
    assert measured.held == Held(inputs.nbytes, inputs.nbytes, 0, 0)


def test_held_bytes_count_a_storage_once_and_what_lives_anyway_not_at_all() -> None:
    x = torch.randn(10, requires_grad=True)
    w = torch.randn(10)
    assert held_bytes(lambda: x * x) == x.nbytes
    assert held_bytes(lambda: x * w) == w.nbytes
    assert held_bytes(lambda: x * w, alive=[w]) == 0


@pytest.mark.parametrize("name", SPEC)
def test_every_layer_is_measured_at_a_million_elements(name: str) -> None:
    case = large(SPEC[name])
    parameters = case.build(SPEC[name].layer, torch.float32).parameters()
    assert max(x.numel() for x in (*case.draw(torch.float32), *parameters)) >= ELEMENTS


def test_the_fastest_run_counts() -> None:
    calls: list[int] = []
    assert len(fastest([lambda: calls.append(0), lambda: calls.append(1)], 0)) == 2
    assert calls[:4] == [0, 1, 0, 1]


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)


def test_command_prints_a_table_and_leaves_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["benchmark", "--only", "dropout?d", "--fast", "--out", str(tmp_path)]) == 0
    (run,) = (tmp_path / "benchmark").iterdir()
    printed = capsys.readouterr().out
    assert "geometric mean" in printed
    assert "Measured on one thread of" in printed
    assert (run / "report.html").read_text().count("<svg") == 2
    with (run / "metrics.csv").open() as stream:
        assert [row["layer"] for row in csv.DictReader(stream)] == ["Dropout1d", "Dropout2d", "Dropout3d"]


def test_a_layer_that_cannot_be_compiled_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(module: torch.nn.Module) -> None:
        raise RuntimeError("C++ compile error\n" + "in a template\n" * 99)

    monkeypatch.setattr(torch, "compile", compile)
    given = ["benchmark", "--compiled", "--only", "relu6", "--fast", "--out", str(tmp_path)]
    assert cli.main(given) == 2
    said = capsys.readouterr().err
    assert "--compiled: ReLU6 cannot be compiled (C++ compile error); choose others by --only" in said
    assert "template" not in said


def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["benchmark", "--only", "Convolution", "--out", str(tmp_path)]) == 2
    assert "--only: 'Convolution' is the name of no layer" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
