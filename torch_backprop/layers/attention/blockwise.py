r"""Attention a tile of scores at a time, on plain tensors. Dao et al. (2022), arXiv:2205.14135, algorithms 1, 4.

Of the scores S of a row only the logarithm L of the sum of their exponentials is kept. With that and O, which
are saved, the backward pass finds everything again tile by tile:

    P = exp(S - L)     dS = P (dP - D)     D = rowsum(P dP) = rowsum(g O)

The last step is sum_j P_ij m_ij (sum_e g_ie V_je) = sum_e g_ie (sum_j P_ij m_ij V_je): D needs no tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_backprop.layers.attention.formula import Four, Grads, Options, Saved, is_grouped
from torch_backprop.layers.attention.tiling import Operand, Scores, Tile
from torch_backprop.layers.bits import pack, unpack
from torch_backprop.rule import widen


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Options) -> Four:
    """O, W or nothing, L, and the bits of what dropout keeps."""
    scores = _scores(q, k, mask, batch_of(q, k, v), options)
    noise, kept = None, q.new_empty(0)
    if options.p and math.prod(scores.shape):
        noise = torch.zeros(scores.shape, dtype=torch.bool)
        kept = pack(noise if options.p == 1 else noise.bernoulli_(1 - options.p))
    count, length, columns = scores.shape
    values = Operand.of(v, scores.batch)
    o = values.matrices.new_empty(count, length, v.shape[-1])
    lse = o.new_empty(count, length, 1)
    w = o.new_empty((count, length, columns) if options.weights else 0)
    for tile in scores.tiles():
        s = tile.scored()
        top = s.amax(-1, keepdim=True).clamp_(min=torch.finfo(s.dtype).min)
        total = s.sub_(top).exp_().sum(-1, keepdim=True)
        if not options.weights:
            # a row that sees nothing has no weights in torch's attention, undefined ones in its softmax
            total.masked_fill_(total == 0, 1)
        lse[tile.place] = top + total.log()
        if noise is not None:
            s *= tile.of(noise[tile.heads])
            total *= options.keep
        if options.weights:
            torch.div(s, total, out=w[tile.place])
        o[tile.place] = torch.bmm(s, tile.seen(values)).div_(total)
    shape = (*scores.batch, length)
    w = w.view(*shape, columns) if options.weights else w
    return o.view(*shape, v.shape[-1]).to(v.dtype), w.to(v.dtype), lse, kept


def pull(
    saved: Saved, needs: tuple[bool, ...], options: Options, grad_o: Tensor, grad_w: Tensor | None
) -> Grads:
    """The gradients that are needed, from those of O and W; only that of v if v is not saved."""
    batch = tuple(grad_o.shape[:-2])
    scores = _scores(saved.q, saved.k, saved.mask, batch, options)
    noise = unpack(saved.kept, torch.Size(scores.shape)) if saved.kept.numel() else None
    shapes = (saved.q.shape, saved.k.shape, saved.v_shape, None if saved.mask is None else saved.mask.shape)
    grads = [
        Operand.of(grad_o.new_zeros(shape), batch) if need and shape is not None else None
        for need, shape in zip(needs, shapes, strict=True)
    ]
    _Pullback(scores, noise, options.keep, *grads).run(saved, _heads(grad_o), grad_w)
    results = (None if grad is None else grad.matrices for grad in grads)
    return tuple(
        None if result is None or shape is None else result.reshape(shape).to(grad_o.dtype)
        for result, shape in zip(results, shapes, strict=True)
    )


@dataclass(frozen=True)
class _Pullback:
    """Adds to the gradients that are not None."""

    scores: Scores
    noise: Tensor | None
    keep: float
    grad_q: Operand | None
    grad_k: Operand | None
    grad_v: Operand | None
    grad_mask: Operand | None

    def run(self, saved: Saved, grad_o: Tensor, grad_w: Tensor | None) -> None:
        lse = saved.lse.reshape(*grad_o.shape[:2], 1)
        above = None if grad_w is None else _heads(grad_w)
        v = d = None
        if saved.v is not None and saved.o is not None:
            v = Operand.of(saved.v, self.scores.batch)
            d = torch.linalg.vecdot(grad_o, _heads(saved.o)).unsqueeze(-1)
        for tile in self.scores.tiles():
            p, g = tile.scored(lse).exp_(), grad_o[tile.place]
            noise = None if self.noise is None else tile.of(self.noise[tile.heads])
            if self.grad_v is not None:
                w = p if noise is None else torch.mul(p, noise, out=tile.buffer(1, p.shape))
                self.grad_v.add_product(tile.heads, tile.columns, w.mT, g, 1 / self.keep)
            if v is None or d is None:
                continue
            ds = tile.product(1, g, tile.seen(v).mT, 1 / self.keep)
            if above is not None:
                ds.add_(tile.of(above[tile.heads]), alpha=1 / self.keep)
            if noise is not None:
                ds *= noise
            # W has a gradient of its own, of which O knows nothing
            ds -= d[tile.place] if above is None else torch.linalg.vecdot(p, ds).unsqueeze(-1)
            self._spread(tile, ds.mul_(p))

    def _spread(self, tile: Tile, ds: Tensor) -> None:
        """From the scores of a tile to what they are made of."""
        q, k, c = tile.asked(self.scores.q), tile.seen(self.scores.k), self.scores.scale
        if self.grad_q is not None:
            self.grad_q.add_product(tile.heads, tile.rows, ds, k, c)
        if self.grad_k is not None:
            self.grad_k.add_product(tile.heads, tile.columns, ds.mT, q, c)
        if self.grad_mask is not None:
            _, rows, columns = self.grad_mask.matrices.shape
            ds = ds if columns > 1 else ds.sum(2, keepdim=True)
            ds = ds if rows > 1 else ds.sum(1, keepdim=True)
            self.grad_mask.add(tile.heads, tile.rows if rows > 1 else slice(None), ds)


def batch_of(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, ...]:
    """The leading dimensions of O."""
    leads = (x.shape[:-3] + q.shape[-3:-2] if is_grouped(q, x) else x.shape[:-2] for x in (k, v))
    return tuple(torch.broadcast_shapes(q.shape[:-2], *leads))


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to the scores: the logarithm of whether a key may be seen."""
    return mask.to(dtype).log() if mask.dtype == torch.bool else mask


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, batch: tuple[int, ...], options: Options) -> Scores:
    masks = None if mask is None else Operand.of(added(mask, q.dtype), batch)
    return Scores(Operand.of(q, batch), Operand.of(k, batch), masks, batch, options.c, options.causal)


def _heads(x: Tensor) -> Tensor:
    """``(*, rows, columns)`` as ``(heads, rows, columns)``, in the precision of the tiles."""
    return widen(x).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
