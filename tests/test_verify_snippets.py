"""Snippets: each shows its finding again, from nothing but what it says."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function

from torch_backprop.verify import Finding, check

ROOT = Path(__file__).parents[1]
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Square(Function):
    """x^2 as it should be, in the old style: no torch.func, no forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * ctx.saved_tensors[0].conj() * grads[0]


class Halved(Square):
    """Lacks the factor 2."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.saved_tensors[0].conj() * grads[0]


class Branched(Square):
    """Right for small numbers alone."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * ctx.saved_tensors[0].clamp(max=30) * grads[0]


class Detached(Square):
    """The second gradient is silently zero."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2 * ctx.saved_tensors[0].detach() * grads[0]


class Strided(Square):
    """Reads its memory as contiguous."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * grads[0] if x.is_contiguous() else x * grads[0]


class Emptied(Square):
    """Fails where there is nothing to differentiate."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x.conj() * grads[0] / bool(x.abs().max() >= 0)


class Deadly(Square):
    """Takes its process with it."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if not grads[0].numel():
            os._exit(3)
        return 2 * ctx.saved_tensors[0].conj() * grads[0]


class Scribbling(Square):
    """Writes into grad_output."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].mul_(2 * ctx.saved_tensors[0].conj())


class Leaking(Square):
    """Keeps its output on ctx."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.y = x * x
        return ctx.y


class Coarse(Square):
    """Computes in float32."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (2 * ctx.saved_tensors[0].float() * grads[0].float()).to(grads[0].dtype)


class Biased(nn.Linear):
    """Forgets the gradient of its bias."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.detach()
        return nn.functional.linear(input, self.weight, bias)


CASES: list[tuple[Any, Any, str, str]] = [
    (Halved, torch.square, "wrong", "constant-factor"),
    (Halved.apply, None, "wrong", "constant-factor"),
    (Branched, torch.square, "wrong", "untaken-branch"),
    (Strided, torch.square, "wrong", "strided-input"),
    (Detached, torch.square, "wrong", "double-backward-wrong"),
    (Biased(3, 2), nn.Linear(3, 2), "wrong", "missing-gradient"),
    (Emptied, torch.square, "crash", "empty-input"),
    (Deadly, torch.square, "crash", "kills-process"),
    (Scribbling, torch.square, "contract", "cotangent-mutated"),
    (Leaking, torch.square, "contract", "leak"),
    (Coarse, torch.square, "precision", "float32-inside"),
    (Square, torch.square, "capability", "no-forward-mode"),
]


def found(candidate: Any, reference: Any, fault: str) -> Finding:
    report = check(candidate, X, reference=reference, compile=False)
    return next(finding for finding in report.findings if finding.fault == fault)


@pytest.mark.parametrize(("candidate", "reference", "verdict", "fault"), CASES, ids=[row[3] for row in CASES])
def test_snippet_shows_the_finding_again(candidate: Any, reference: Any, verdict: str, fault: str):
    finding = found(candidate, reference, fault)
    names: dict[str, Any] = {}
    exec(finding.snippet, names)
    (again,) = (each for each in names["report"].findings if each.fault == fault)
    assert (again.verdict, again.seen, again.expected) == (verdict, finding.seen, finding.expected)


def test_snippet_stands_alone():
    script = found(Branched, torch.square, "untaken-branch").snippet
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "untaken-branch" in done.stdout, done.stderr


def test_snippet_says_what_cannot_be_imported():
    finding = found(lambda x: x.detach() * x, torch.square, "constant-factor")
    assert "candidate = ...  # <lambda> cannot be imported" in finding.snippet


def test_snippet_writes_arguments_of_every_kind():
    def stretched(xs: list[Tensor], at: Tensor, by: float) -> Tensor:
        return xs[0] * xs[1].detach() + 0 * at.sum() * min(by, 1.0)

    def right(xs: list[Tensor], at: Tensor, by: float) -> Tensor:
        return xs[0] * xs[1]

    many = torch.arange(300).remainder(5)
    report = check(stretched, [X, X + 1], many, float("inf"), reference=right, probes=("numbers",))
    script = report.findings[0].snippet
    assert "check(candidate, [input0, input1], input2, inf, reference=reference" in script
    assert "from math import inf" in script
    assert "input2 = torch.randint(0, 5, (300,)" in script or "input2 = torch.tensor([" in script


@pytest.mark.parametrize(
    ("argument", "words"), [("probes", "probes: 'nmbers' is none of .*numbers, "), ("samples", "as given, ")]
)
def test_names_that_do_not_exist_are_refused(argument: str, words: str):
    options: dict[str, Any] = {argument: ("nmbers",)}
    with pytest.raises(ValueError, match=words):
        check(torch.tanh, X, **options)
