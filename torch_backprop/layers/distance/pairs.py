"""The distances of all pairs: between two sets of vectors, and within one.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 2.30 (the p-norm) and 6.45 (the sums in
backward).

With d = x1_i - x2_j, y_ij its p-norm, and g = dL/dy:

    cdist   forward   y_ij = |x1_i - x2_j|_p
            backward  dL/dx1_i = sum_j g_ij s(x1_i - x2_j)     dL/dx2_j = -sum_i g_ij s(x1_i - x2_j)
    pdist   forward   y_ij = |x_i - x_j|_p for i < j
            backward  dL/dx_i = sum_j (g_ij + g_ji) s(x_i - x_j)

since a vector is in as many pairs as there are others, and adds up what it gets from each. The slope s of
the norm is that of :mod:`pairwise`, except that for p = inf each of the largest components has all of g. Of
equal vectors the gradient is 0. A third tensor of all differences is never held: they are computed again for
a few rows at a time. For p = 2 and many vectors torch itself multiplies matrices, and with w_ij = g_ij / y_ij
the gradient is (sum_j w_ij) x1_i - sum_j w_ij x2_j.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.distance.pairwise import slope
from torch_backprop.layers.elementwise import TILE
from torch_backprop.layers.loss.reduction import sum_to
from torch_backprop.rule import FLOAT32, Rule, first_order, owned, private, save, widen

PRODUCTS = {
    "use_mm_for_euclid_dist_if_necessary": 25,
    "use_mm_for_euclid_dist": 0,
    "donot_use_mm_for_euclid_dist": torch.inf,
}
"""How many vectors are so many that torch multiplies matrices."""


class CdistRule(Rule):
    """Saves x1, x2 and y."""

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, p: float, compute_mode: str) -> Tensor:
        return owned(torch.cdist(x1, x2, p, compute_mode))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, ctx.p, mode = inputs
        many = max(x1.shape[-2], x2.shape[-2]) > PRODUCTS[mode]
        ctx.by_products = ctx.p == 2 and many
        save(ctx, x1, x2, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2, y = ctx.saved_tensors
        needs_x1, needs_x2, *_ = ctx.needs_input_grad
        x1_wide, x2_wide, y, g = map(widen, (x1, x2, y, grad_y))
        # as torch: by products many pairs go faster, near ones lose digits
        if ctx.by_products:
            grad_x1, grad_x2 = _by_products(x1_wide, x2_wide, _weights(y, g), needs_x1, needs_x2)
        else:
            grad_x1, grad_x2 = _by_components(x1_wide, x2_wide, y, g, ctx.p, needs_x1, needs_x2)
        if needs_x1:
            grad_x1 = sum_to(grad_x1, x1.shape).to(x1.dtype)
        if needs_x2:
            grad_x2 = sum_to(grad_x2, x2.shape).to(x2.dtype)
        return grad_x1 if needs_x1 else None, grad_x2 if needs_x2 else None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x1: Tensor | None, tangent_x2: Tensor | None, *_: None) -> Tensor:
        x1, x2, y = ctx.saved_tensors
        tangent_x1 = torch.zeros_like(x1) if tangent_x1 is None else tangent_x1
        tangent_x2 = torch.zeros_like(x2) if tangent_x2 is None else tangent_x2
        moved = tangent_x1.unsqueeze(-2) - tangent_x2.unsqueeze(-3)
        return _tangent(x1.unsqueeze(-2) - x2.unsqueeze(-3), moved, y, ctx.p)


class PdistRule(Rule):
    """Saves x and y."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def forward(x: Tensor, p: float) -> Tensor:
        return torch.pdist(x, p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.p = inputs
        save(ctx, x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        if ctx.p == 0:
            return torch.zeros_like(x), None
        n, y, g = x.shape[0], widen(y), widen(grad_y)
        if ctx.p in (1, torch.inf) and first_order(x, y, g) and _moderate(x):
            return _within(widen(x), y, g, ctx.p).to(x.dtype), None
        if ctx.p == 2 and x.dtype == torch.float32:
            # each pair once, as one of two sets; in float64, where near vectors do not cancel
            w = _weights(y, g)
            w = _upper(w, n, 0) if first_order(w) else _full(w, n).triu(1)
            as_first, as_second = _by_products(x.double(), x.double(), w.double(), True, True)
            grad_x = as_first + as_second
        else:
            g_full = _full(g, n)
            # for p = 1 a stand-in that is not read
            y_full = g_full if ctx.p == 1 else _full(y, n)
            grad_x, _ = _by_components(x, x, y_full, g_full, ctx.p, True, False)
        return grad_x.to(x.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        x, y = ctx.saved_tensors
        # in the order in which torch lists the pairs
        i, j = torch.triu_indices(x.shape[0], x.shape[0], 1, device=x.device)
        return _tangent(x[i] - x[j], tangent_x[i] - tangent_x[j], y, ctx.p)


def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """Distances of all pairs of two sets; as :func:`torch.cdist`.

    Args:
        x1: ``(*, P, M)``.
        x2: ``(*, R, M)``, with leading dimensions broadcastable to the first's.
        p: the order of the norm, 0 and infinity among them.
        compute_mode: whether Euclidean distances come from a product of matrices: of more than 25 vectors,
            ``"use_mm_for_euclid_dist"`` or ``"donot_use_mm_for_euclid_dist"``.

    Returns:
        ``(*, P, R)``; in the inputs' unit.

    Raises:
        RuntimeError: shapes that do not fit, or a negative ``p``, in torch's words.
        ValueError: an unknown compute mode, in torch's words.
    """
    if (
        p == 2
        and compute_mode in PRODUCTS
        and max(x1.shape[-2:-1] + x2.shape[-2:-1]) > PRODUCTS[compute_mode]
    ):
        # of vectors that torch multiplies it keeps others, made of them
        x1, x2 = private(x1, x2), private(x2, x1)
    return CdistRule.call(x1, x2, p, compute_mode)


def pdist(input: Tensor, p: float = 2) -> Tensor:
    """Distances of all pairs of one set; as :func:`torch.nn.functional.pdist`.

    Args:
        input: ``(N, M)``.
        p: the order of the norm, 0 and infinity among them.

    Returns:
        ``(N (N - 1) / 2)``, the pairs i < j in the order of a triangle's rows; in the input's unit.

    Raises:
        RuntimeError: an input of another number of dimensions, or a negative ``p``, in torch's words.
    """
    return PdistRule.call(input, p)


def _by_components(
    x1: Tensor, x2: Tensor, y: Tensor, g: Tensor, p: float, needs_x1: bool, needs_x2: bool
) -> tuple[Any, Any]:
    """Both gradients from the differences; a few rows at a time where that is allowed."""
    if p == 0:
        return torch.zeros_like(x1), torch.zeros_like(x2)
    numbers = g.numel() * x1.shape[-1]
    # the sign of an undefined difference would be 0
    undefined = x1.isnan().any(-1).unsqueeze(-1) | x2.isnan().any(-1).unsqueeze(-2)
    g = torch.where(undefined, torch.nan, g)
    # the pairs innermost: components are often few
    x1, x2 = x1.mT.unsqueeze(-1), x2.mT.contiguous().unsqueeze(-2)
    y, g = y.unsqueeze(-3), g.unsqueeze(-3)
    if numbers <= 2 * TILE or not first_order(x1, x2, y, g):
        slopes = slope(x1 - x2, y, p, g, shared=False)
        return _rows(slopes.sum(-1)) if needs_x1 else None, -_rows(slopes.sum(-2)) if needs_x2 else None
    grads_x1, grad_x2 = [], torch.zeros_like(x2.squeeze(-2))
    for tile in zip(*(x.split(max(1, y.shape[-2] * TILE // numbers), -2) for x in (x1, y, g)), strict=True):
        x1_tile, y_tile, g_tile = tile
        slopes = slope(x1_tile - x2, y_tile, p, g_tile, shared=False)
        if needs_x1:
            grads_x1.append(slopes.sum(-1))
        if needs_x2:
            grad_x2 = grad_x2 - slopes.sum(-2)
    return _rows(torch.cat(grads_x1, -1)) if needs_x1 else None, _rows(grad_x2)


def _rows(grad: Tensor) -> Tensor:
    """The gradient of vectors, from that of their components."""
    return grad.mT.contiguous()


def _within(x: Tensor, y: Tensor, g: Tensor, p: float) -> Tensor:
    """The gradient of pdist for p = 1 or infinity, each pair once: it pulls its two vectors apart."""
    n, m = x.shape
    rows, columns = x.unsqueeze(-1), x.mT.contiguous()
    g, largest = _upper(g, n, 0), None if p == 1 else _upper(torch.where(y == 0, 1, y), n, 1)
    grad_x, grad_columns = torch.empty_like(x), torch.zeros_like(columns)
    height = max(1, 4 * TILE // max(1, n * m))
    room = x.new_empty(min(height, n) * m * n)
    for start in range(0, n, height):
        part, shape = slice(start, start + height), (min(height, n - start), m, n - start)
        d = torch.sub(rows[part], columns[:, start:], out=room[: math.prod(shape)].view(shape))
        if largest is None:
            d.sign_()
        else:
            # 1 or -1 at the largest component, 0 elsewhere and of equal vectors
            d.div_(largest[part, start:].unsqueeze(1)).trunc_()
        grad_x[part] = d.mul_(g[part, start:].unsqueeze(1)).sum(-1)
        grad_columns[:, start:].sub_(d.sum(0))
    return grad_x.add_(grad_columns.mT)


def _weights(y: Tensor, g: Tensor) -> Tensor:
    if first_order(y, g) and y.numel() and y.amin() > 0:
        return g / y
    return torch.where(y == 0, 0, g / torch.where(y == 0, 1, y))


def _by_products(x1: Tensor, x2: Tensor, w: Tensor, needs_x1: bool, needs_x2: bool) -> tuple[Any, Any]:
    """Both gradients of the Euclidean distance, with two products of matrices."""
    grad_x1 = x1 * w.sum(-1, keepdim=True) - w @ x2 if needs_x1 else None
    grad_x2 = x2 * w.sum(-2).unsqueeze(-1) - w.mT @ x1 if needs_x2 else None
    return grad_x1, grad_x2


def _tangent(d: Tensor, moved: Tensor, y: Tensor, p: float) -> Tensor:
    """How the norms y of d change as d moves."""
    slopes = slope(d, y.unsqueeze(-1), p, torch.ones_like(y).unsqueeze(-1), shared=False)
    return (slopes * moved).sum(-1)


def _moderate(x: Tensor) -> bool:
    """Whether all differences are finite."""
    return bool((x.abs() < torch.finfo(x.dtype).max / 2).all())


def _upper(pairs: Tensor, n: int, other: float) -> Tensor:
    """The matrix of the pairs i < j of n vectors, and the other number elsewhere."""
    upper = torch.full((n, n), other, dtype=pairs.dtype, device=pairs.device)
    return upper.masked_scatter_(torch.ones_like(upper, dtype=torch.bool).triu_(1), pairs)


def _full(pairs: Tensor, n: int) -> Tensor:
    """The symmetric matrix of the pairs i < j of n vectors, 0 on the diagonal."""
    if first_order(pairs):
        upper = _upper(pairs, n, 0)
        return upper + upper.mT
    i, j = torch.meshgrid(*(torch.arange(n, device=pairs.device),) * 2, indexing="ij")
    low, high = torch.minimum(i, j), torch.maximum(i, j)
    listed = n * low - low * (low + 1) // 2 + high - low - 1
    # the diagonal is one place after the last
    return F.pad(pairs, (0, 1))[torch.where(low == high, n * (n - 1) // 2, listed)]
