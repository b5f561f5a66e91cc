"""The README's table of layers: one row for each, from their SPECs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import cli
from experiments.coverage import ability as coverage
from experiments.marked import Marked
from torch_backprop.nn import Linear, ReLU
from torch_backprop.spec import LayerSpec, case

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_lists_every_layer_and_its_derivation() -> None:
    table = Marked(str(README), "coverage").text.splitlines()[2:]
    listed = [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in table]
    expected = []
    for spec in coverage.layers().values():
        path = spec.layer.__module__.removeprefix("torch_backprop.layers.").replace(".", "/")
        expected.append((spec.layer.__name__, f"[{path}](torch_backprop/layers/{path}.py)"))
    assert listed == expected, "run: python -m experiments coverage --write README.md"


def test_a_layer_that_can_everything() -> None:
    spec = LayerSpec(Linear, torch.nn.Linear, (case((2, 3), in_features=3, out_features=4),))
    assert coverage.cells(spec)[2:] == ["yes", "yes", "yes", "yes", "same", "0"]


def test_what_a_layer_cannot_is_said() -> None:
    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            return inputs[0].clone()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError("no second order")
            return grads[0]

    class Layer(ReLU):
        def forward(self, input: torch.Tensor) -> Any:
            return Opaque.apply(super().forward(input))

    spec = LayerSpec(Layer, torch.nn.ReLU, (case((2, 3)),))
    assert coverage.cells(spec)[2:5] == ["no", "no", "no"]


def test_the_run_leaves_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None) -> None:
    assert cli.main(["coverage", "--only", "linear", "--out", str(tmp_path)]) == 0
    assert "1 of 1 layers do all four" in " ".join(capsys.readouterr().out.split())
    (run,) = (tmp_path / "coverage").iterdir()
    assert "Linear,linear,yes,yes,yes,yes,same,0" in (run / "metrics.csv").read_text()
    assert "<svg" in (run / "report.html").read_text()
    assert list(run.glob("events/*/*"))


def test_a_file_without_marks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.md").write_text("nothing here")
    for file, words in (("notes.md", "has no lines <!-- coverage -->"), ("none.md", "cannot be read")):
        with pytest.raises(SystemExit) as ended:
            cli.main(["coverage", "--write", str(tmp_path / file), "--out", str(tmp_path / "runs")])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err


def test_what_is_around_the_marks_stays(tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("before\n<!-- x -->\nold\n<!-- end of x -->\nafter\n")
    Marked(str(file), "x").write("new\n\n")
    assert file.read_text() == "before\n<!-- x -->\nnew\n<!-- end of x -->\nafter\n"
