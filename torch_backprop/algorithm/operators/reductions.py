"""Sums, means, extremes, variances, norms: what was reduced is spread out again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

Dims = int | Sequence[int] | None


def _kept(dim: Dims, count: int) -> tuple[int, ...]:
    """The reduced dimensions; none given means all."""
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        return tuple(range(count))
    return tuple(d % max(count, 1) for d in ((dim,) if isinstance(dim, int) else dim))


def _spread(g: Tensor, dim: Dims, keepdim: bool, shape: torch.Size) -> Tensor:
    """Puts the reduced dimensions back, with size 1."""
    if keepdim or not shape:
        return g.reshape((1,) * len(shape)) if g.dim() != len(shape) else g
    dims = _kept(dim, len(shape))
    return g.reshape([1 if d in dims else size for d, size in enumerate(shape)])


def _count(dim: Dims, shape: torch.Size) -> int:
    return math.prod(shape[d] for d in _kept(dim, len(shape))) if shape else 1


def _sum(y: Tensor, x: Tensor, dim: Dims = None, keepdim: bool = False, **_: Any) -> Any:
    shape = x.shape
    return (lambda g: _spread(g, dim, keepdim, shape).expand(shape),)


def _mean(y: Tensor, x: Tensor, dim: Dims = None, keepdim: bool = False, **_: Any) -> Any:
    shape, n = x.shape, _count(dim, x.shape)
    return (lambda g: (_spread(g, dim, keepdim, shape) / n).expand(shape),)


def _extremum(y: Tensor, x: Tensor, dim: Dims = None, keepdim: bool = False) -> Any:
    """Several equal extremes share the gradient evenly."""
    shape = x.shape

    def pull(g: Tensor) -> Tensor:
        hit = (x == _spread(y, dim, keepdim, shape)).to(g.dtype)
        return _spread(g, dim, keepdim, shape) * hit / hit.sum(_kept(dim, len(shape)), keepdim=True)

    return (pull,)


def _pick(y: tuple[Tensor, Tensor], x: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The gradient goes to the place that was picked."""
    shape, places = x.shape, y[1]

    def pull(g: Tensor, _: Any) -> Tensor:
        index = _spread(places, dim, keepdim, shape)
        return g.new_zeros(shape).scatter(dim, index, _spread(g, dim, keepdim, shape))

    return (pull,)


def _kth(y: tuple[Tensor, Tensor], x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return _pick(y, x, dim, keepdim)


def _ordered(y: tuple[Tensor, Tensor], x: Tensor, dim: int) -> Any:
    shape, places = x.shape, y[1]
    return (lambda g, _: g.new_zeros(shape).scatter(dim, places, g),)


def _deviation(x: Tensor, dim: Dims, correction: Any) -> Tensor:
    """Twice x minus its mean, over the degrees of freedom: the gradient of the variance."""
    free = max(_count(dim, x.shape) - (1 if correction is None else correction), 0)
    return 2 * (x - x.mean(_kept(dim, x.dim()), keepdim=True)) / free


def _variance(y: Any, x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    return (lambda g: _spread(g, dim, keepdim, x.shape) * _deviation(x, dim, correction),)


def _standard(y: Any, x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    def pull(g: Tensor) -> Tensor:
        halved = (g / (2 * y)).masked_fill(y == 0, 0)
        return _spread(halved, dim, keepdim, x.shape) * _deviation(x, dim, correction)

    return (pull,)


def _variance_mean(
    y: Any, x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> Any:
    (spread,) = _variance(y[0], x, dim, correction=correction, keepdim=keepdim)
    (mean,) = _mean(y[1], x, dim, keepdim)
    return (lambda g_variance, g_mean: spread(g_variance) + mean(g_mean),)


def _standard_mean(
    y: Any, x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> Any:
    (spread,) = _standard(y[0], x, dim, correction=correction, keepdim=keepdim)
    (mean,) = _mean(y[1], x, dim, keepdim)
    return (lambda g_standard, g_mean: spread(g_standard) + mean(g_mean),)


def _product(y: Tensor, x: Tensor, dim: int | None = None, keepdim: bool = False, **_: Any) -> Any:
    """The product of all others, from both sides, so that zeros do no harm."""

    def pull(g: Tensor) -> Tensor:
        flat = x.reshape(-1) if dim is None or not x.dim() else x.movedim(dim, -1)
        ones = torch.ones_like(flat[..., :1])
        before = torch.cat((ones, flat[..., :-1]), -1).cumprod(-1)
        after = torch.cat((ones, flat.flip(-1)[..., :-1]), -1).cumprod(-1).flip(-1)
        others = (before * after).conj()
        others = others.reshape(x.shape) if dim is None or not x.dim() else others.movedim(-1, dim)
        return _spread(g, dim, keepdim, x.shape) * others

    return (pull,)


def _norm(
    y: Tensor, x: Tensor, p: Any = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    p = 2 if p is None else p
    if p in (math.inf, -math.inf):
        (share,) = _extremum(y, x.abs(), dim, keepdim)
        return (lambda g: share(g) * torch.sgn(x),)

    def pull(g: Tensor) -> Tensor:
        whole, g = _spread(y, dim, keepdim, x.shape), _spread(g, dim, keepdim, x.shape)
        if p == 2:
            return x * (g / whole).masked_fill(whole == 0, 0)
        slope = torch.sgn(x) * x.abs().pow(p - 1) if p not in (0, 1) else torch.sgn(x) * p
        # at the origin a subgradient of 0, as torch has it
        slope = slope.masked_fill(x == 0, 0)
        return slope * (g * whole.pow(1 - p)).masked_fill(whole == 0, 0)

    return (pull,)


def _weight_norm(y: Any, v: Tensor, size: Tensor, dim: int = 0) -> Any:
    """w = size v / |v|, each norm over all dimensions but one."""
    norm, dims = y[1], [d for d in range(v.dim()) if d != dim % v.dim()]

    def to_direction(g: Tensor, _: Any) -> Tensor:
        along = (g * v).sum(dims, keepdim=True)
        return size / norm * (g - v * (along / norm / norm))

    return to_direction, lambda g, _: (g * v).sum(dims, keepdim=True) / norm


def _middle(y: Tensor, x: Tensor) -> Any:
    """The numbers that are the median share the gradient evenly."""

    def pull(g: Tensor) -> Tensor:
        hit = ((x == y) | (x.isnan() & y.isnan())).to(g.dtype)
        return g * hit / hit.sum()

    return (pull,)


def _running(y: tuple[Tensor, Tensor], x: Tensor, dim: int) -> Any:
    shape, places = x.shape, y[1]
    return (lambda g, _: g.new_zeros(shape).scatter_add(dim, places, g),)


def _both_extremes(
    y: tuple[Tensor, Tensor], x: Tensor, *, dim: int | None = None, keepdim: bool = False
) -> Any:
    (least,), (most,) = (_extremum(part, x, dim, keepdim) for part in y)
    return (lambda g_least, g_most: least(g_least) + most(g_most),)


def _numbers_summed(y: Tensor, x: Tensor, dim: Dims = None, keepdim: bool = False, **_: Any) -> Any:
    (spread,) = _sum(y, x, dim, keepdim)
    return (lambda g: spread(g) * ~x.isnan(),)


def _cumulative(y: Tensor, x: Tensor, dim: int, **_: Any) -> Any:
    return (lambda g: g.flip(dim).cumsum(dim).flip(dim),)


def _logsumexp(y: Tensor, x: Tensor, dim: Dims, keepdim: bool = False) -> Any:
    shape = x.shape
    return (lambda g: _spread(g, dim, keepdim, shape) * (x - _spread(y, dim, keepdim, shape)).exp().conj(),)


TABLE = {
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    **dict.fromkeys((aten.amax.default, aten.amin.default, aten.max.default, aten.min.default), _extremum),
    **dict.fromkeys((aten.max.dim, aten.min.dim, aten.median.dim, aten.mode.default), _pick),
    aten.kthvalue.default: _kth,
    aten.sort.default: lambda y, x, dim=-1, descending=False: _ordered(y, x, dim),
    aten.sort.stable: lambda y, x, *, stable, dim=-1, descending=False: _ordered(y, x, dim),
    aten.topk.default: lambda y, x, k, dim=-1, largest=True, sorted=True: _ordered(y, x, dim),
    aten.var.correction: _variance,
    aten.std.correction: _standard,
    aten.var_mean.correction: _variance_mean,
    aten.std_mean.correction: _standard_mean,
    aten.prod.default: _product,
    aten.prod.dim_int: _product,
    aten.linalg_vector_norm.default: _norm,
    aten.norm.ScalarOpt_dim: _norm,
    aten.norm.Scalar: _norm,
    aten._weight_norm_interface.default: _weight_norm,
    **dict.fromkeys((aten.median.default, aten.nanmedian.default), _middle),
    aten.nanmedian.dim: _pick,
    **dict.fromkeys((aten.cummax.default, aten.cummin.default), _running),
    aten.aminmax.default: _both_extremes,
    aten.nansum.default: _numbers_summed,
    aten.cumsum.default: _cumulative,
    aten.logsumexp.default: _logsumexp,
    aten.trace.default: lambda y, x: (
        lambda g, s=x.shape: g * torch.eye(*s, dtype=g.dtype, device=g.device),
    ),
}
