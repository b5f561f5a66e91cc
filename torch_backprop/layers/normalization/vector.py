"""Vectors of length one: division by the p-norm.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 2.30 (the norm).

Of the vectors x along some dimensions, with u_j = d n / d x_j (complex ones in PyTorch's convention):

    forward   n = (sum abs(x_j)^p)^(1/p)    m = max(n, eps)    y = x / m
    backward  dL/dx_j = g_j / m - u_j Re(sum_k conj(g_k) x_k) / m^2, the second term only where n >= eps

since d(1 / m) = -dm / m^2, and dm is dn or, below eps, 0:

    p            0    1         2        inf, -inf                        other
    u_j          0    sgn x_j   x_j/n    sgn x_j / ties if abs(x_j) = n   sgn x_j (abs(x_j) / n)^(p - 1)

The norm has no derivative where it is 0, nor where elements tie for the largest: there, as in torch, u is 0,
or shared by the ties.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import pull
from torch_backprop.rule import FLOAT32, Rule, save, widen


class NormalizeRule(Rule):
    """Saves x."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def forward(x: Tensor, p: float, eps: float, *dims: int) -> Tensor:
        return F.normalize(x, p, dims, eps)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.options = inputs
        save(ctx, x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        # tiles are cut along dimension 0, so that vectors along it would be cut, too
        whole = not x.dim() or 0 in (dim % x.dim() for dim in ctx.options[2:])
        if whole:
            grad_x = _pullback(widen(grad_y), widen(x), *ctx.options).to(x.dtype)
        else:
            grad_x = pull(_pullback, grad_y, x, *ctx.options)
        return grad_x, *(None for _ in ctx.options)

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        t, x_wide = widen(tangent_x), widen(x)
        m, u, slope = _slopes(x_wide, *ctx.options)
        tangent_n = _real(u.conj() * t).sum(ctx.options[2:], keepdim=True)
        return (t / m - x_wide * (tangent_n * slope)).to(x.dtype)


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """Divides vectors by their p-norm, or by eps if that is larger; as :func:`torch.nn.functional.normalize`.

    Args:
        input: ``(*)``, real or complex.
        p: the exponent of the norm.
        dim: the dimension along which the vectors lie, or a tuple of those.
        eps: the smallest divisor.
        out: where to write the result, which then has no gradient.

    Raises:
        IndexError: ``dim`` is out of range, in torch's words.
        RuntimeError: an integer input, or an ``out`` where a gradient is required, in torch's words.

    >>> normalize(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    if out is not None or not (input.is_floating_point() or input.is_complex()):
        return F.normalize(input, p, dim, eps, out)
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    return NormalizeRule.call(input, p, eps, *(dims or range(input.dim())))


def _pullback(g: Tensor, x: Tensor, p: float, eps: float, *dims: int) -> Tensor:
    m, u, slope = _slopes(x, p, eps, *dims)
    return g / m - u * (_real(g.conj() * x).sum(dims, keepdim=True) * slope)


def _slopes(x: Tensor, p: float, eps: float, *dims: int) -> tuple[Tensor, Tensor, Tensor]:
    """m, u, and 1 / m^2 where n >= eps, else 0."""
    n = torch.linalg.vector_norm(x, p, dims, keepdim=True)
    if p == 2:
        u = x / (n + (n == 0))
    elif p in (0, 1):
        u = torch.sgn(x) * p
    elif abs(p) == math.inf:
        largest = x.abs() == n
        u = torch.sgn(x) * largest / largest.sum(dims, keepdim=True)
    else:
        # where x or n is 0 so is sgn x, and what it is multiplied with has only to be finite
        u = torch.sgn(x) * ((x.abs() + (x == 0)) / (n + (n == 0))) ** (p - 1)
    m = n.clamp_min(eps)
    return m, u, (n >= eps) / m**2


def _real(t: Tensor) -> Tensor:
    return t.real if t.is_complex() else t
