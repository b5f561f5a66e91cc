"""Softmax and its logarithm. Bridle (1990), "Probabilistic interpretation of feedforward network outputs".

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 6.29-6.30; Bishop (2006), "Pattern recognition
and machine learning", eq. 4.106 (the Jacobian).

Over the classes c of one sample, with g = dL/dy:

    softmax      forward  y_c = exp(x_c) / sum_k exp(x_k)     backward  dL/dx_c = y_c (g_c - sum_k g_k y_k)
    log_softmax  forward  y_c = x_c - log sum_k exp(x_k)      backward  dL/dx_c = g_c - exp(y_c) sum_k g_k

since d y_c / d x_k = y_c (delta_ck - y_k). That Jacobian is symmetric, so the forward-mode rule of softmax is
its backward rule; that of log_softmax is t_c - sum_k exp(y_k) t_k.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import _get_softmax_dim  # pyright: ignore[reportAttributeAccessIssue]

from torch_backprop.rule import FLOAT32, Rule, save, widen
from torch_backprop.spec import LayerSpec, case


class NormalizingRule(Rule):
    """Saves y."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.dim = inputs[1]
        save(ctx, output)


class SoftmaxRule(NormalizingRule):
    """Saves y."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return torch.softmax(x, dim)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return _softmax_pullback(grad_y, y, ctx.dim), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        (y,) = ctx.saved_tensors
        return _softmax_pullback(tangent_x, y, ctx.dim)


class LogSoftmaxRule(NormalizingRule):
    """Saves y."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return torch.log_softmax(x, dim)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        g = widen(grad_y)
        # exp(y) is the softmax, so that y is enough
        return (g - widen(y).exp() * g.sum(ctx.dim, keepdim=True)).to(y.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        (y,) = ctx.saved_tensors
        t = widen(tangent_x)
        return (t - (widen(y).exp() * t).sum(ctx.dim, keepdim=True)).to(y.dtype)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """exp(x) normalized to sum one along ``dim``; as :func:`torch.nn.functional.softmax`.

    Args:
        input: ``(*)``.
        dim: the dimension of the classes; chosen with a warning if None.
        dtype: the input is cast to it first.

    Raises:
        IndexError: ``dim`` is out of range, in torch's words.
    """
    dim = _get_softmax_dim("softmax", input.dim(), _stacklevel) if dim is None else dim
    return SoftmaxRule.call(input if dtype is None else input.to(dtype), dim)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """softmax of -x; as :func:`torch.nn.functional.softmin`."""
    dim = _get_softmax_dim("softmin", input.dim(), _stacklevel) if dim is None else dim
    return softmax(-input, dim, dtype=dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """log(softmax(x)), without its underflow; as :func:`torch.nn.functional.log_softmax`."""
    dim = _get_softmax_dim("log_softmax", input.dim(), _stacklevel) if dim is None else dim
    return LogSoftmaxRule.call(input if dtype is None else input.to(dtype), dim)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A softmax of noisy logits, which is a relaxed sample; as :func:`torch.nn.functional.gumbel_softmax`.

    Jang, Gu & Poole (2017), arXiv:1611.01144, eqs. 1 and 2. With noise a = -log(-log u), u uniform in (0, 1),
    y = softmax((x + a) / tau).

    Args:
        logits: ``(*)``, logarithms of probabilities that need not be normalized.
        tau: the temperature.
        hard: whether the largest is returned as 1 and the others as 0, with the gradient of y all the same.
        eps: without effect, with a warning.
        dim: the dimension of the classes.
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    # -log u has an exponential distribution
    noise = torch.empty_like(logits, memory_format=torch.legacy_contiguous_format).exponential_().log()
    y = softmax((logits - noise) / tau, dim)
    if not hard:
        return y
    one_hot = torch.zeros_like(logits, memory_format=torch.legacy_contiguous_format)
    return one_hot.scatter_(dim, y.max(dim, keepdim=True)[1], 1.0) - y.detach() + y


class Softmax(torch.nn.Softmax):
    """Drop-in for :class:`torch.nn.Softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, summing to one along ``dim``."""
        return softmax(input, self.dim, _stacklevel=5)


class Softmin(torch.nn.Softmin):
    """Drop-in for :class:`torch.nn.Softmin`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, summing to one along ``dim``."""
        return softmin(input, self.dim, _stacklevel=5)


class LogSoftmax(torch.nn.LogSoftmax):
    """Drop-in for :class:`torch.nn.LogSoftmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, whose exponentials sum to one along ``dim``."""
        return log_softmax(input, self.dim, _stacklevel=5)


class Softmax2d(torch.nn.Softmax2d):
    """Drop-in for :class:`torch.nn.Softmax2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` or ``(C, H, W)`` to the same, summing to one over C."""
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead")
        return softmax(input, -3, _stacklevel=5)


def _softmax_pullback(g: Tensor, y: Tensor, dim: int) -> Tensor:
    # the sum cancels almost all of g when one class has all the weight: in float32 at least
    weighted = widen(g) * widen(y)
    return (weighted - widen(y) * weighted.sum(dim, keepdim=True)).to(y.dtype)


SPECS = (
    LayerSpec(
        Softmax,
        torch.nn.Softmax,
        (case((3, 4), dim=1), case((2, 3, 4), dim=0), case((), dim=0)),
        large=case((1024, 1024), dim=1),
    ),
    LayerSpec(
        Softmin,
        torch.nn.Softmin,
        (case((3, 4), dim=1),),
        large=case((1024, 1024), dim=1),
    ),
    LayerSpec(
        LogSoftmax,
        torch.nn.LogSoftmax,
        (case((3, 4), dim=1), case((0, 4), dim=-1)),
        large=case((1024, 1024), dim=1),
    ),
    LayerSpec(
        Softmax2d,
        torch.nn.Softmax2d,
        (case((2, 3, 4, 2)), case((3, 4, 2))),
        large=case((16, 64, 32, 32)),
    ),
)
