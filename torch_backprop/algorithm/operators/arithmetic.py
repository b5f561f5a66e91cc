"""Sums, products, quotients, powers, choices: functions of several tensors, element by element."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def conj(x: Any) -> Any:
    """The conjugate of a tensor or of a number."""
    return x.conj() if isinstance(x, Tensor) else x.conjugate()


def _power_base(g: Tensor, a: Any, n: Any) -> Tensor:
    # 0 * 0^-1 would be undefined where the derivative of x^0 is 0
    if not isinstance(n, Tensor):
        return g * conj(n * a ** (n - 1)) if n else torch.zeros_like(g)
    slope = torch.where(n == 0, 0, n * a ** (n - 1))
    return g * slope.conj()


def _power_exponent(g: Tensor, a: Any, n: Tensor, y: Tensor) -> Tensor:
    base = torch.as_tensor(a, dtype=y.dtype, device=g.device)
    zero = (base == 0) & (n.real >= 0 if n.is_complex() else n >= 0)
    return g * torch.where(zero, 0, y * base.log()).conj()


def _extreme(y: Tensor, a: Tensor, b: Tensor) -> Any:
    """Of two equal numbers each gets half."""
    return (
        lambda g: g * ((a == y).to(g.dtype) - (a == b).to(g.dtype) / 2),
        lambda g: g * ((b == y).to(g.dtype) - (a == b).to(g.dtype) / 2),
    )


def _extreme_number(y: Tensor, a: Tensor, b: Tensor) -> Any:
    """What is undefined loses against a number; of two equal ones the first is taken."""
    first = (a == y) | b.isnan()
    return lambda g: g * first, lambda g: g * ~first


def _divided(y: Tensor, a: Any, b: Any) -> Any:
    return lambda g: g / conj(b), lambda g: -g * conj(a / b / b)


def _rounded(y: Tensor, a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    return (torch.zeros_like, torch.zeros_like) if rounding_mode else _divided(y, a, b)


def _multiplied(y: Tensor, a: Any, b: Any) -> Any:
    return lambda g: g * conj(b), lambda g: g * conj(a)


def _added(y: Tensor, a: Any, b: Any, alpha: Any = 1) -> Any:
    return lambda g: g, lambda g: g * conj(alpha) if alpha != 1 else g


def _subtracted(y: Tensor, a: Any, b: Any, alpha: Any = 1) -> Any:
    return lambda g: g, lambda g: -g * conj(alpha) if alpha != 1 else -g


def _raised(y: Tensor, a: Any, n: Any) -> Any:
    return lambda g: _power_base(g, a, n), lambda g: _power_exponent(g, a, n, y)


def _interpolated(y: Tensor, a: Tensor, b: Tensor, w: Any) -> Any:
    return lambda g: g * conj(1 - w), lambda g: g * conj(w), lambda g: g * conj(b - a)


TABLE = {
    aten.add.Tensor: _added,
    aten.add.Scalar: _added,
    aten.sub.Tensor: _subtracted,
    aten.sub.Scalar: _subtracted,
    aten.rsub.Scalar: lambda y, a, b, alpha=1: (lambda g: -g * conj(alpha),),
    aten.rsub.Tensor: lambda y, a, b, alpha=1: (lambda g: -g * conj(alpha), lambda g: g),
    aten.mul.Tensor: _multiplied,
    aten.mul.Scalar: _multiplied,
    aten.div.Tensor: _divided,
    aten.div.Scalar: _divided,
    aten.div.Tensor_mode: _rounded,
    aten.div.Scalar_mode: _rounded,
    aten.floor_divide.default: lambda y, a, b: (torch.zeros_like, torch.zeros_like),
    aten.remainder.Tensor: lambda y, a, b: (lambda g: g, lambda g: -g * torch.floor(a / b)),
    aten.remainder.Scalar: lambda y, a, b: (lambda g: g,),
    aten.fmod.Tensor: lambda y, a, b: (lambda g: g, lambda g: -g * torch.trunc(a / b)),
    aten.fmod.Scalar: lambda y, a, b: (lambda g: g,),
    aten.pow.Tensor_Scalar: _raised,
    aten.pow.Tensor_Tensor: _raised,
    aten.pow.Scalar: _raised,
    aten.atan2.default: lambda y, a, b: (
        lambda g: g * b / (a * a + b * b),
        lambda g: -g * a / (a * a + b * b),
    ),
    aten.hypot.default: lambda y, a, b: (lambda g: g * (a / y), lambda g: g * (b / y)),
    aten.logaddexp.default: lambda y, a, b: (
        lambda g: g * conj((a - y).exp()),
        lambda g: g * conj((b - y).exp()),
    ),
    aten.maximum.default: _extreme,
    aten.minimum.default: _extreme,
    aten.fmax.default: _extreme_number,
    aten.fmin.default: _extreme_number,
    aten.xlogy.Tensor: lambda y, a, b: (
        lambda g: torch.where((a == 0) & (b <= 0), 0, g * b.log()),
        lambda g: g * a / b,
    ),
    aten.copysign.Tensor: lambda y, a, b: (lambda g: g * (a.sgn() * y.sgn()), torch.zeros_like),
    aten.ldexp.Tensor: lambda y, a, n: (lambda g: g * conj(2.0**n), lambda g: g * conj(y * math.log(2))),
    aten.addcmul.default: lambda y, x, a, b, value=1: (
        lambda g: g,
        lambda g: g * conj(b * value),
        lambda g: g * conj(a * value),
    ),
    aten.addcdiv.default: lambda y, x, a, b, value=1: (
        lambda g: g,
        lambda g: g * conj(value / b),
        lambda g: -g * conj(value * a / b / b),
    ),
    aten.lerp.Scalar: _interpolated,
    aten.lerp.Tensor: _interpolated,
    aten.where.self: lambda y, c, a, b: (
        None,
        lambda g: torch.where(c, g, 0),
        lambda g: torch.where(c, 0, g),
    ),
    aten.masked_fill.Scalar: lambda y, a, mask, value: (lambda g: g.masked_fill(mask, 0),),
    aten.masked_fill.Tensor: lambda y, a, mask, value: (
        lambda g: g.masked_fill(mask, 0),
        None,
        lambda g: torch.where(mask, g, 0).sum(),
    ),
    aten.copy.default: lambda y, a, source, *_: (torch.zeros_like, lambda g: g),
    aten.fill.Scalar: lambda y, a, value: (torch.zeros_like,),
    aten.fill.Tensor: lambda y, a, value: (torch.zeros_like, lambda g: g.sum()),
    aten.zero.default: lambda y, a, *_, **__: (torch.zeros_like,),
}
