"""The first-order backward pass where each row of a matrix is standardized: layer and RMS norm.

With the saved m and r of a row, d = x - m, and sums over the n elements of the row:

    dL/dx = r (w g - sum(w g) / n - d r^2 sum(w g d) / n)
    dL/dw = sum over rows of g d r                            dL/db = sum over rows of g

Sums over a row are matrix-vector products of g and g d with w. Tile by tile, d is written where dL/dx will
be. Without centering m = 0 and sum(w g) is missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import tiles
from torch_backprop.rule import widen


def pull_rows(
    g: Tensor, x: Tensor, w: Tensor | None, m: Tensor | None, r: Tensor, n: int, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by x, and by w and b, of plain tensors, as ``needs`` says; without centering m is None."""
    g, x, r = g.reshape(-1, n), x.reshape(-1, n), widen(r).reshape(-1, 1)
    w = None if w is None else widen(w).reshape(n)
    # a stand-in that is not read
    means = r if m is None else widen(m).reshape(-1, 1)
    grad_x, by_w, by_b = torch.empty_like(x), r.new_zeros(n), r.new_zeros(n)
    for out, g_tile, x_tile, m_tile, r_tile in tiles(grad_x, g, x, means, r):
        g_tile, x_tile = widen(g_tile), widen(x_tile)
        scratch = out if needs[0] and out.dtype == g_tile.dtype else torch.empty_like(g_tile)
        d = x_tile if m is None else torch.sub(x_tile, m_tile, out=scratch)
        product = g_tile * d
        if needs[0]:
            torch.mul(d, _row_sums(product, w) * r_tile**2 / -n, out=scratch)
            if m is not None:
                scratch.sub_(_row_sums(g_tile, w) / n)
            scratch = scratch.add_(g_tile) if w is None else scratch.addcmul_(g_tile, w)
            torch.mul(scratch, r_tile, out=out)
        if needs[1]:
            by_w += product.mul_(r_tile).sum(0)
            by_b += g_tile.sum(0)
    return grad_x, by_w, by_b


def _row_sums(t: Tensor, w: Tensor | None) -> Tensor:
    return t.sum(1, keepdim=True) if w is None else (t @ w).unsqueeze(1)
