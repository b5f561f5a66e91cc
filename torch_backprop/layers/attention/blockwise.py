"""Attention a tile of scores at a time, on plain tensors: Dao et al. (2022), arXiv:2205.14135, eqs. 3-6.

It serves the derivation of ``scaled_dot_product``. Whole rows of scores fit the cache, so that nothing has to
be carried from tile to tile: no logarithm of a sum of exponentials, and not O, of which D = rowsum(g O) could
be had too. With those saved the backward pass is no faster, since a softmax of scores in the cache costs less
than their exponentials by an operator of its own; and where one key has all the weight of a row, rowsum(P dP)
is its dP to the last digit, and dP - D is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_backprop.layers.attention.formula import Grads, Options, Saved, is_grouped
from torch_backprop.layers.attention.tiling import Operand, Scores, Tile
from torch_backprop.layers.bits import pack, unpack
from torch_backprop.rule import owned, widen


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """O, nothing, and the bits of what dropout keeps."""
    scores = _scores(q, k, mask, batch_of(q, k, v), options)
    noise, kept = None, q.new_empty(0)
    if options.p:
        noise = torch.zeros(scores.shape, dtype=torch.bool, device=q.device)
        kept = pack(noise if options.p == 1 else noise.bernoulli_(1 - options.p))
    values = Operand.of(v, scores.batch)
    o = values.matrices.new_empty(*scores.shape[:2], v.shape[-1])
    for tile in scores.tiles():
        p = tile.probabilities()
        if noise is not None:
            p.mul_(tile.of(noise)).div_(options.keep)
        o[tile.place] = torch.bmm(p, tile.seen(values))
    o = o.view(*scores.batch, *o.shape[1:])
    return owned(o).to(v.dtype), q.new_empty(0), kept


def pull(
    saved: Saved, needs: tuple[bool, ...], options: Options, grad_o: Tensor, grad_w: Tensor | None
) -> Grads:
    """The gradients that are needed, from that of O; only that of v if v is not saved."""
    assert saved.q is not None
    assert saved.k is not None
    batch = tuple(grad_o.shape[:-2])
    scores = _scores(saved.q, saved.k, saved.mask, batch, options)
    kept = saved.kept
    noise = None if kept is None or not kept.numel() else unpack(kept, torch.Size(scores.shape))
    likes = saved.q, saved.k, grad_o.new_empty(saved.shapes[2]) if saved.v is None else saved.v, saved.mask
    # in the precision of the tiles, so that sums over them are rounded once
    zeros = [
        Operand.of(torch.zeros_like(like, memory_format=torch.contiguous_format), batch)
        if need and like is not None
        else None
        for need, like in zip(needs, likes, strict=True)
    ]
    _Pullback(scores, noise, options.keep, *zeros).run(saved.v, _heads(grad_o))
    q, k, v, mask = (
        None if zero is None or like is None else _laid_out(zero.matrices, like)
        for zero, like in zip(zeros, likes, strict=True)
    )
    return q, k, v, mask


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

    def run(self, v: Tensor | None, grad_o: Tensor) -> None:
        values = None if v is None else Operand.of(v, self.scores.batch)
        for tile in self.scores.tiles():
            p, g = tile.probabilities(), grad_o[tile.place]
            noise = None if self.noise is None else tile.of(self.noise)
            if self.grad_v is not None:
                w = p if noise is None else p * noise
                self.grad_v.add_product(tile.heads, tile.columns, w.mT, g, 1 / self.keep)
            # where v alone learns, P is all that is needed
            if values is None:
                continue
            # over the scores, which are not needed any more
            ds = tile.product(g, tile.seen(values).mT, 1 / self.keep)
            if noise is not None:
                ds *= noise
            self._spread(tile, ds.sub_(torch.linalg.vecdot(p, ds).unsqueeze(-1)).mul_(p))

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


def batch_of(q: Tensor, *others: Tensor) -> tuple[int, ...]:
    """The leading dimensions of the scores of q and k; with v too, those of O."""
    leads = (x.shape[:-3] + q.shape[-3:-2] if is_grouped(q, x) else x.shape[:-2] for x in others)
    return tuple(torch.broadcast_shapes(q.shape[:-2], *leads))


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, batch: tuple[int, ...], options: Options) -> Scores:
    if mask is not None and mask.dtype == torch.bool:
        # what is added to the scores is the logarithm of whether a key may be seen
        mask = mask.to(widen(q).dtype).log()
    masks = None if mask is None else Operand.of(mask, batch)
    return Scores(Operand.of(q, batch), Operand.of(k, batch), masks, batch, options.c, options.causal)


def _heads(x: Tensor) -> Tensor:
    """``(*, rows, columns)`` as ``(heads, rows, columns)``, in the precision of the tiles."""
    return widen(x).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _laid_out(grad: Tensor, like: Tensor) -> Tensor:
    """A gradient in the shape, dtype and layout of ``like``."""
    grad = grad.view(like.shape)
    same = grad.dtype == like.dtype and grad.stride() == like.stride()
    return grad if same else torch.empty_like(like).copy_(grad)
