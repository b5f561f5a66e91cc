"""Functions of one tensor, element by element: each row is f'(x), from whichever of x and y is at hand."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torch_backprop.algorithm.operators.arithmetic import conj

aten = torch.ops.aten


def _same(y: Any, *args: Any, **kwargs: Any) -> Any:
    return (lambda g: g,)


def _flat(y: Any, *args: Any, **kwargs: Any) -> Any:
    """Piecewise constant."""
    return (torch.zeros_like,)


def _bounded(y: Tensor, x: Tensor, low: Any = None, high: Any = None) -> Any:
    """The gradient passes where the bounds, numbers or tensors, do not act; tensors get the rest."""
    never = torch.zeros((), dtype=torch.bool, device=x.device)
    above = x > high if high is not None else never
    # where the bounds cross, the upper one is the value
    crossed = torch.as_tensor(low > high, device=x.device) if low is not None and high is not None else never
    below = (x < low) & ~crossed if low is not None else never
    return (
        lambda g: g * ~(below | above | crossed),
        lambda g: g * below,
        lambda g: g * (above | crossed),
    )


def _magnitude(g: Tensor, x: Tensor) -> Tensor:
    return g * torch.sgn(x)


TABLE = {
    **dict.fromkeys((aten._to_copy.default, aten.clone.default, aten.lift_fresh.default), _same),
    **dict.fromkeys((aten.alias.default, aten.frac.default, aten.positive.default), _same),
    **dict.fromkeys((aten.floor.default, aten.ceil.default, aten.trunc.default, aten.sign.default), _flat),
    **dict.fromkeys((aten.bernoulli.default, aten.bernoulli.p), _flat),
    **dict.fromkeys((aten.round.default, aten.round.decimals, aten.heaviside.default), _flat),
    aten.neg.default: lambda y, x: (lambda g: -g,),
    aten.abs.default: lambda y, x: (lambda g: _magnitude(g, x),),
    aten.exp.default: lambda y, x: (lambda g: g * conj(y),),
    aten.exp2.default: lambda y, x: (lambda g: g * conj(y) * math.log(2),),
    aten.expm1.default: lambda y, x: (lambda g: g * conj(y + 1),),
    aten.log.default: lambda y, x: (lambda g: g / conj(x),),
    aten.log2.default: lambda y, x: (lambda g: g / conj(x * math.log(2)),),
    aten.log10.default: lambda y, x: (lambda g: g / conj(x * math.log(10)),),
    aten.log1p.default: lambda y, x: (lambda g: g / conj(x + 1),),
    aten.sqrt.default: lambda y, x: (lambda g: g / conj(2 * y),),
    aten.rsqrt.default: lambda y, x: (lambda g: g * conj(-0.5 * y * y * y),),
    aten.reciprocal.default: lambda y, x: (lambda g: -g * conj(y * y),),
    aten.sin.default: lambda y, x: (lambda g: g * conj(x.cos()),),
    aten.cos.default: lambda y, x: (lambda g: -g * conj(x.sin()),),
    aten.tan.default: lambda y, x: (lambda g: g * conj(1 + y * y),),
    aten.asin.default: lambda y, x: (lambda g: g * conj((1 - x * x).rsqrt()),),
    aten.acos.default: lambda y, x: (lambda g: -g * conj((1 - x * x).rsqrt()),),
    aten.atan.default: lambda y, x: (lambda g: g / conj(1 + x * x),),
    aten.asinh.default: lambda y, x: (lambda g: g * conj((x * x + 1).rsqrt()),),
    aten.acosh.default: lambda y, x: (lambda g: g * conj((x * x - 1).rsqrt()),),
    aten.atanh.default: lambda y, x: (lambda g: g / conj(1 - x * x),),
    aten.sinh.default: lambda y, x: (lambda g: g * conj(x.cosh()),),
    aten.cosh.default: lambda y, x: (lambda g: g * conj(x.sinh()),),
    aten.tanh.default: lambda y, x: (lambda g: g * conj(1 - y * y),),
    aten.sigmoid.default: lambda y, x: (lambda g: g * conj(y * (1 - y)),),
    aten.erf.default: lambda y, x: (lambda g: g * (2 / math.sqrt(math.pi)) * (-x * x).exp(),),
    aten.erfc.default: lambda y, x: (lambda g: g * (-2 / math.sqrt(math.pi)) * (-x * x).exp(),),
    aten.erfinv.default: lambda y, x: (lambda g: g * (math.sqrt(math.pi) / 2) * (y * y).exp(),),
    aten.lgamma.default: lambda y, x: (lambda g: g * x.digamma(),),
    aten.digamma.default: lambda y, x: (lambda g: g * torch.polygamma(1, x),),
    aten.deg2rad.default: lambda y, x: (lambda g: g * (math.pi / 180),),
    aten.rad2deg.default: lambda y, x: (lambda g: g * (180 / math.pi),),
    aten.relu.default: lambda y, x: (lambda g: g * (y > 0),),
    aten.silu.default: lambda y, x: (lambda g: g * conj(x.sigmoid() * (1 + x * (1 - x.sigmoid()))),),
    aten.clamp.default: _bounded,
    aten.clamp.Tensor: _bounded,
    aten.clamp_min.default: lambda y, x, low: (lambda g: g * (x >= low),),
    aten.clamp_min.Tensor: _bounded,
    aten.clamp_max.default: lambda y, x, high: (lambda g: g * (x <= high),),
    aten.clamp_max.Tensor: lambda y, x, high: (lambda g: g * (x <= high), lambda g: g * (x > high)),
    aten.nan_to_num.default: lambda y, x, *_: (lambda g: g * x.isfinite(),),
    aten._softmax.default: lambda y, x, dim, _: (lambda g: y * (g - (g * y).sum(dim, keepdim=True)),),
    aten._log_softmax.default: lambda y, x, dim, _: (lambda g: g - y.exp() * g.sum(dim, keepdim=True),),
    aten._conj.default: lambda y, x: (conj,),
    aten._conj_physical.default: lambda y, x: (conj,),
    aten.conj_physical.default: lambda y, x: (conj,),
    aten._neg_view.default: lambda y, x: (lambda g: -g,),
    aten.view_as_real.default: lambda y, x: (lambda g: torch.view_as_complex(g.contiguous()),),
    aten.view_as_complex.default: lambda y, x: (lambda g: torch.view_as_real(g.resolve_conj()),),
    aten.complex.default: lambda y, a, b: (lambda g: g.real, lambda g: g.imag),
    aten.polar.default: lambda y, r, angle: (
        lambda g: (g.conj() * torch.polar(torch.ones_like(r), angle)).real,
        lambda g: (g.conj() * y * 1j).real,
    ),
}
