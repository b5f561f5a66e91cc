"""Kernels as people write them: with a fault in one line, which is named, and right ones, left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tests.zoo.place import causal, later, pull_smooth, pull_softmax, smooth
from tests.zoo.plant import HandWritten, rule
from torch_backprop.verify import Report, check


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def pulled_scores(g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    p = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
    s = g @ v.mT
    return scale * p * (s - (p * s).sum(-1, keepdim=True))


def attention(scale: float) -> type[Function]:
    return rule(
        attend,
        lambda g, q, k, v: pulled_scores(g, q, k, v, scale) @ k,
        lambda g, q, k, v: pulled_scores(g, q, k, v, scale).mT @ q,
        lambda g, q, k, v: torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1).mT @ g,
    )


def counted(x: Tensor, t: Tensor, every: bool, g: Tensor) -> Tensor:
    """The gradient of cross entropy; ``every``: divided by all rows, not by those that count."""
    valid = t != -100
    rows = t.numel() if every else valid.sum()
    picked = torch.zeros_like(x).scatter(1, t.clamp(min=0).unsqueeze(1), 1)
    return g * (x.softmax(1) - picked) * valid.unsqueeze(1) / rows


def cross_entropy(every: bool) -> type[Function]:
    return rule(F.cross_entropy, lambda g, x, t: counted(x, t, every, g), lambda g, x, t: None)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:2].clone(), x[2:].clone()


class Spectrum(HandWritten):
    """A Fourier transform by NumPy, whose adjoint is not itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(np.fft.fft(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.fft.fft(g).real


class RightSpectrum(Spectrum):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.fft.ifft(g, norm="forward").real


class Single(HandWritten):
    """A kernel of NumPy that takes float32 alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("float32, please")
        ctx.save_for_backward(x)
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - ctx.saved_tensors[0].tanh())


class RightSingle(Single):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - ctx.saved_tensors[0].tanh() ** 2)


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
Z = torch.complex(X, X.flip(0))
LABELS = torch.tensor([0, 2, 1, 2])

Kernel = tuple[str, str, str, Callable[..., Any], Callable[..., Any], tuple[Tensor, ...]]
KERNELS: tuple[Kernel, ...] = (
    ("no scale", "constant-factor", "1.41421 times", attention(1), attention(3**-0.5), (X, X + 1, X * 2)),
    (
        "all rows counted",
        "masked-index",
        "wrong on the sample input1 partly -100",
        cross_entropy(True),
        cross_entropy(False),
        (X, LABELS),
    ),
    (
        "halves swapped",
        "wrong-gradient",
        "go to the wrong places",
        rule(halves, lambda g, h, x: torch.cat([h, g])),
        rule(halves, lambda g, h, x: torch.cat([g, h])),
        (X,),
    ),
    (
        "half of a complex slope",
        "constant-factor",
        "0.5 times",
        rule(torch.exp, lambda g, z: g * z.exp() / 2),
        rule(torch.exp, lambda g, z: g * z.exp()),
        (Z,),
    ),
    (
        "sums the wrong way",
        "wrong-gradient",
        "reversed along axis -1",
        rule(lambda x: x.cumsum(-1), lambda g, x: g.cumsum(-1)),
        rule(lambda x: x.cumsum(-1), lambda g, x: g.flip(-1).cumsum(-1).flip(-1)),
        (X,),
    ),
    (
        "the mean's part forgotten",
        "wrong-gradient",
        "a sum or a path is missing",
        rule(lambda x: x - x.mean(-1, keepdim=True), lambda g, x: g),
        rule(lambda x: x - x.mean(-1, keepdim=True), lambda g, x: g - g.mean(-1, keepdim=True)),
        (X,),
    ),
    (
        "a causal mask forgotten",
        "wrong-gradient",
        "a mask",
        rule(causal, lambda g, x: pull_softmax(g, x.softmax(-1))),
        rule(causal, lambda g, x: pull_softmax(g, causal(x)).masked_fill(later(x), 0)),
        (X[:3],),
    ),
    (
        "round the border",
        "wrong-gradient",
        "at some places of axis 1, wrong at [0] of 2",
        rule(smooth, lambda g, x: pull_smooth(g, 1)),
        rule(smooth, lambda g, x: pull_smooth(g, 0)),
        (X,),
    ),
    ("transform", "wrong-gradient", "wrong places", Spectrum, RightSpectrum, (X,)),
    ("float32 alone", "wrong-gradient", "no recognised shape", Single, RightSingle, (X,)),
)


def faults(report: Report) -> dict[str, str]:
    found = [finding for finding in report.findings if finding.verdict != "capability"]
    return {finding.fault: finding.diagnosis for finding in found}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel[0])
def test_fault_of_a_kernel_is_named_and_its_twin_is_not_flagged(kernel: Kernel):
    _, fault, words, faulty, correct, inputs = kernel
    found = faults(check(faulty, *inputs, isolate=False, quick=True))
    assert words in found[fault]
    assert fault not in faults(check(correct, *inputs, isolate=False, quick=True))


class Centred(HandWritten):
    """By NumPy, with a statistic that has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        mean = x.detach().numpy().mean(-1, keepdims=True)
        statistic = torch.from_numpy(mean)
        ctx.mark_non_differentiable(statistic)
        return torch.from_numpy(x.detach().numpy() - mean), statistic

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Any) -> Tensor:
        return g - g.mean(-1, keepdim=True)


class Sine(HandWritten):
    """Both passes by NumPy; at large inputs differences show nothing of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sin(x.detach().numpy()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * torch.from_numpy(np.cos(ctx.saved_tensors[0].numpy()))


class Cubed(HandWritten):
    """Takes float32 alone, and autograd sees through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("float32, please")
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


class Scaled(HandWritten):
    """In place, with a constant and outputs that are no tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Any:
        ctx.factor = factor
        ctx.mark_dirty(x)
        return x.mul_(factor), "scaled", factor

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        return g * ctx.factor, None


RIGHT: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
    (Centred, (X,)),
    (Sine, (X,)),
    (Cubed, (X,)),
    (Scaled, (X, 2.5)),
    (lambda inputs: {"y": torch.tanh(inputs["x"])}, ({"x": X},)),
)


@pytest.mark.parametrize(("candidate", "inputs"), RIGHT, ids=("centred", "sine", "cubed", "scaled", "dict"))
def test_right_one_is_left_alone(candidate: Callable[..., Any], inputs: tuple[Any, ...]):
    assert not faults(check(candidate, *inputs, isolate=False, compile=False))


def test_what_is_judged_in_another_dtype_is_said_to_be():
    report = check(Cubed, X, isolate=False, reference=lambda x: x**3, quick=True)
    assert any("judged in torch.float32" in note for note in report.notes)
