"""The verifier's command line: what it verifies, what it writes, how it exits."""

import json
from pathlib import Path

import pytest

from torch_backprop.verify.cli import main

GELU = ["torch.nn.functional:gelu", "--input", "4x8", "--quick", "--reference"]


def test_right_function_exits_with_0(capsys: pytest.CaptureFixture[str]):
    assert main([*GELU, "torch.nn.functional:gelu"]) == 0
    assert "gelu: ok" in capsys.readouterr().out


def test_faults_exit_with_1(capsys: pytest.CaptureFixture[str]):
    assert main([*GELU, "torch.nn.functional:silu"]) == 1
    assert "wrong-forward" in capsys.readouterr().out


def test_layers_follow_from_their_specs(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html")}
    written = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    assert main(["--layer", "Tanh", "--quick", *written]) == 0
    assert "2 verified, 0 with faults" in capsys.readouterr().out
    assert [report["ok"] for report in json.loads(files["json"].read_text())] == [True, True]
    assert "Tanh 3x4" in files["html"].read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gelu", "--input", "3"], "target: 'gelu' is no pkg.module:name"),
        (
            ["torch:jelu", "--input", "3"],
            "target: 'torch:jelu' cannot be imported",
        ),
        (["torch:tanh"], "--input: the target needs at least one"),
        (["torch:tanh", "--input", "3y"], "--input: '3y' is no shape"),
        (
            ["torch:tanh", "--input", "3", "--reference", "torch"],
            "--reference: 'torch' is no pkg",
        ),
        (["torch:mm", "--input", "3"], "inputs: the candidate mm refuses"),
        (["--input", "3"], "--input and --reference need a target"),
        (["--layer", "Tan"], "--layer: 'Tan' is no layer"),
        (["torch:tanh", "--input", "-3"], "--input: '-3' is no shape"),
        (["--limit", "0"], "--limit: 0 is no time"),
        (["--jobs", "-1"], "--jobs: -1 is no number of targets"),
        (["torch:tanh", "--input", "3", "--layer", "Tanh"], "--layer: names a layer of this package"),
        (["--json", "no/such/folder.json"], "--json: 'no/such/folder.json' cannot be written"),
        (["--html", "."], "--html: '.' cannot be written"),
        (["--device", "abacus"], "--device: 'abacus' cannot be used"),
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--quick"])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
