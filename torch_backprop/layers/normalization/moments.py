"""Standardization, which layer, batch and group norm share: they differ in what they average over.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 8.35-8.37.

With mean m, variance v and r = (v + eps)^(-1/2) over n elements, and any vector t:

    forward   h = (x - m) r
    Jacobian  d h_i / d x_j = r (delta_ij - 1/n - h_i h_j / n)
    product   J t = r (t - mean(t) - h mean(t h))

The one non-obvious step is that of r: d r / d x_j = -r^2 h_j / n, since d v / d x_j = 2 (x_j - m) / n. J is
symmetric, so that J t is the forward-mode rule as well as, with t = w g, the pullback of y = w h + b:

    backward  dL/dx = J (w g)    dL/dw = sum g h    dL/db = sum g

Without centering (root mean square) m = 0 and mean(t) is missing. Over the complex numbers h is holomorphic
in x, and the pullback has the conjugates of x and w.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.loss.reduction import sum_to
from torch_backprop.rule import widen

Dims = tuple[int, ...]


def keep(ctx: Any, arguments: tuple[Any, ...], *statistics: Tensor) -> None:
    """Saves of the arguments x, w and b what gradients need, and the statistics for the first-order path."""
    (x, w, *_), (needs_x, needs_w, *_) = arguments, ctx.needs_input_grad
    # a derivative through them is never taken: higher orders start anew from x
    ctx.mark_non_differentiable(*statistics)
    # the gradient of b, a sum of g, needs none of them
    residuals = (x, w if needs_x else None, *statistics)
    ctx.save_for_backward(*(residuals if needs_x or needs_w else (None for _ in residuals)))
    ctx.save_for_forward(x, w, *statistics)
    ctx.like = tuple(None if a is None else (a.shape, a.dtype) for a in arguments)


def returned(ctx: Any, grads: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
    """The needed gradients by x, w and b, in their shapes and dtypes, and None for every other argument."""
    needs = ctx.needs_input_grad
    found: list[Tensor | None] = [None for _ in needs]
    for i, (grad, like) in enumerate(zip(grads, ctx.like, strict=True)):
        if needs[i]:
            found[i] = grad.reshape(like[0]).to(like[1])
    return tuple(found)


def shaped(parameter: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """The parameter in a shape that is broadcastable with x."""
    return None if parameter is None else parameter.reshape(shape)


def standardized(x: Tensor, dims: Dims, eps: float, centered: bool = True) -> tuple[Tensor, Tensor]:
    """h and r over the dimensions ``dims``, in differentiable operators."""
    if centered and x.numel() and not x.is_complex():  # of nothing var_mean warns
        # in the words of torch's own forward pass, so that a compiler computes them once for both passes
        v, m = torch.var_mean(x, dims, correction=0, keepdim=True)
        r = torch.rsqrt(v + eps)
        return (x - m) * r, r
    x = x - x.mean(dims, keepdim=True) if centered else x
    r = torch.rsqrt((x * x).mean(dims, keepdim=True) + eps)
    return x * r, r


def turned(t: Tensor, h: Tensor, r: Tensor, dims: Dims, centered: bool = True) -> Tensor:
    """J t."""
    t = t - t.mean(dims, keepdim=True) if centered else t
    return r * (t - h * (t * h).mean(dims, keepdim=True))


def pull_back(
    g: Tensor,
    x: Tensor | None,
    w: Tensor | None,
    dims: Dims,
    eps: float,
    shape: tuple[int, ...],
    needs_x: bool,
    centered: bool = True,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """The gradients by x and by w and b of ``shape``, broadcastable with x; those that x allows."""
    g = widen(g)
    if x is None:
        return None, None, sum_to(g, shape)
    h, r = standardized(widen(x.conj()), dims, eps, centered)
    # summed first over what w does not tell apart: every sum to come is made of these
    alike = tuple(dim for dim in dims if _is_alone(dim - x.dim(), shape))
    s, t = (a.sum(alike, keepdim=True) if alike else a for a in (g, g * h))
    grad_w, grad_b = sum_to(t, shape), sum_to(s, shape)
    if not needs_x:
        return None, grad_w, grad_b
    if w is not None:
        w = widen(w.conj())
        g, s, t = w * g, w * s, w * t
    n = torch.Size([x.shape[dim] for dim in dims]).numel()
    tangent = g - h * (t.sum(dims, keepdim=True) / n)
    return r * (tangent - s.sum(dims, keepdim=True) / n if centered else tangent), grad_w, grad_b


def _is_alone(dim: int, shape: tuple[int, ...]) -> bool:
    """Whether a parameter of ``shape`` has one element along this dimension, counted from the last."""
    return -dim > len(shape) or shape[dim] == 1


def push_forward(
    tangents: tuple[Tensor | None, ...],
    x: Tensor,
    w: Tensor | None,
    dims: Dims,
    eps: float,
    centered: bool = True,
) -> Tensor:
    """The tangent of y = w h + b, of the shape and dtype of x; parameters are broadcastable with x."""
    tangent_x, tangent_w, tangent_b = tangents
    h, r = standardized(widen(x), dims, eps, centered)
    tangent: Any = torch.zeros_like(h)
    if tangent_x is not None:
        # J is symmetric, so that the pullback is the forward-mode rule
        turn = turned(widen(tangent_x), h, r, dims, centered)
        tangent = turn if w is None else turn * w
    tangent = tangent if tangent_w is None else tangent + h * tangent_w
    tangent = tangent if tangent_b is None else tangent + tangent_b
    return tangent.to(x.dtype)
