"""The first-order backward pass where each row of a matrix is standardized: layer and RMS norm.

It serves the derivations of ``normalization.layer`` and ``rms``.

With the saved m and r of a row, d = x - m, and sums over the n elements of the row:

    dL/dx = r (w g - sum(w g) / n - d r^2 sum(w g d) / n)
    dL/dw = sum over rows of g d r                            dL/db = sum over rows of g

Sums over a row are matrix-vector products of g and g d with w / n. Tile by tile, g d and then d are written
where dL/dx will be. Without centering m = 0 and sum(w g) is missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import tiles
from torch_backprop.rule import widen


def pull_rows(
    g: Tensor, x: Tensor, w: Tensor | None, m: Tensor | None, r: Tensor, n: int, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by x, and by w and b, of plain tensors, as ``needs`` says; m is None if it is 0."""
    g, x, r = g.reshape(-1, n), x.reshape(-1, n), widen(r).reshape(-1, 1)
    w = None if w is None else w.reshape(n).to(r.dtype)
    share = None if w is None else w / n
    # a stand-in that is not read
    means = r if m is None else widen(m).reshape(-1, 1)
    grad_x, by_w, by_b = torch.empty_like(x), r.new_zeros(n), r.new_zeros(n)
    for out, g_tile, x_tile, m_tile, r_tile, slope in tiles(grad_x, g, x, means, r, -r * r):
        g_tile, x_tile = widen(g_tile), widen(x_tile)
        # the memory of the gradient to come; of its first tile alone if none is to come
        out = out if needs[0] else grad_x[: len(out)]
        wide = out if out.dtype == g_tile.dtype else torch.empty_like(g_tile)
        if m is None:
            product = torch.mul(x_tile, g_tile, out=wide)
        else:
            product = torch.sub(x_tile, m_tile, out=wide).mul_(g_tile)
        along = slope * _row_means(product, share)
        if needs[1]:
            by_w += product.mul_(r_tile).sum(0)
            by_b += g_tile.sum(0)
        if needs[0]:
            if m is None:
                torch.mul(x_tile, along, out=wide)
            else:
                torch.sub(x_tile, m_tile, out=wide).mul_(along).sub_(_row_means(g_tile, share))
            wide = wide.add_(g_tile) if w is None else wide.addcmul_(g_tile, w)
            torch.mul(wide, r_tile, out=out)
    return grad_x, by_w, by_b


def _row_means(t: Tensor, share: Tensor | None) -> Tensor:
    return t.mean(1, keepdim=True) if share is None else (t @ share).unsqueeze(1)
