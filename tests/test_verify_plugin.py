"""The pytest plugin, used as a user's test file uses it."""

import subprocess
import sys
from pathlib import Path

import pytest

FILE = """
import pytest, torch
from torch.autograd import Function

class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0].conj() * g

class Halved(Square):
    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[0].conj() * g

@pytest.mark.verify_backward(Square, Halved, inputs=[(4, 3)], quick=True)
def test_backward(verify_backward):
    verify_backward()

def test_fixture(assert_correct_backward):
    assert_correct_backward(Square, torch.randn(3), reference=torch.square, quick=True)
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "test_mine.py").write_text(FILE)
    (folder / "test_refused.py").write_text(FILE.replace(", inputs=[(4, 3)]", ""))
    command = [sys.executable, "-m", "pytest", "-rA", "-q", "--continue-on-collection-errors"]
    done = subprocess.run(
        [*command, "--strict-markers", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return done.stdout + done.stderr


def test_one_test_for_each_function(output: str):
    assert "test_backward[Square]" in output
    assert "test_backward[Halved]" in output
    assert "constant-factor" in output
    assert "2 passed" in output
    assert "1 failed" in output


def test_marker_without_inputs_is_refused(output: str):
    assert "verify_backward: pass candidates, and inputs=[...] with their shapes" in output
