"""The scores of attention, cut into tiles that fit the cache, for the derivation in ``scaled_dot_product``.

A tile is some heads by some rows of queries, with all keys that those rows may see: whole rows, so that a
softmax needs no correction between tiles. Two buffers of the size of a tile serve every tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_backprop.rule import widen

TILE = 1 << 17
"""Scores of a tile: two of them stay in a core.s cache."""


@dataclass(frozen=True)
class Operand:
    """The matrices ``(n, rows, columns)`` of an argument, and which of them each head uses.

    Attributes:
        matrices: the argument, with its leading dimensions as one.
        index: ``(heads)``, or None where each head has its own matrix or all have the same.
    """

    matrices: Tensor
    index: Tensor | None

    @classmethod
    def of(cls, x: Tensor, batch: tuple[int, ...]) -> Operand:
        """``x`` ``(*, rows, columns)`` for heads ``batch``: broadcast, or repeated in groups."""
        lead, count = x.shape[:-2], math.prod(x.shape[:-2])
        matrices = widen(x).reshape(count, *x.shape[-2:])
        if count in (1, math.prod(batch)):
            return cls(matrices, None)
        numbers = torch.arange(count, device=x.device).reshape(lead)
        if lead[-1] not in (1, batch[-1]):
            # grouped queries: neighbouring heads use one matrix
            numbers = numbers.repeat_interleave(batch[-1] // lead[-1], -1)
        return cls(matrices, numbers.expand(batch).reshape(-1))

    def of_heads(self, heads: slice) -> Tensor:
        """The matrices of these heads, or the one that they share."""
        if self.index is not None:
            return self.matrices[self.index[heads]]
        return self.matrices if self.matrices.shape[0] == 1 else self.matrices[heads]

    def add_product(self, heads: slice, rows: slice, a: Tensor, b: Tensor, scale: float) -> None:
        """Adds scale a b to these rows of the matrices of these heads."""
        if self.index is None and self.matrices.shape[0] > 1:
            self.matrices[heads, rows].baddbmm_(a, b, alpha=scale)
        else:
            self.add(heads, rows, torch.bmm(a, b).mul_(scale))

    def add(self, heads: slice, rows: slice, x: Tensor) -> None:
        """Adds ``x`` to these rows of the matrices of these heads."""
        if self.index is not None:
            self.matrices[:, rows].index_add_(0, self.index[heads], x)
        elif self.matrices.shape[0] == 1:
            self.matrices[0, rows] += x.sum(0)
        else:
            self.matrices[heads, rows] += x


@dataclass(frozen=True)
class Scores:
    """What the scores S = scale Q K^T + mask of one call are made of.

    Attributes:
        q: ``(heads, L, E)``.
        k: ``(heads, S, E)``.
        mask: added to the scores; ``(heads, L or 1, S or 1)``, or None.
        batch: the dimensions that the heads stand for.
        scale: the factor of Q K^T.
        causal: whether row i sees columns 0 to i alone.
    """

    q: Operand
    k: Operand
    mask: Operand | None
    batch: tuple[int, ...]
    scale: float
    causal: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Heads, rows and columns of all scores."""
        return math.prod(self.batch), self.q.matrices.shape[1], self.k.matrices.shape[1]

    def tiles(self) -> Iterator[Tile]:
        """Every tile, rows before heads, so that a causal tile's mask serves all heads."""
        count, length, columns = self.shape
        # whole rows, because a softmax needs all of its row
        rows = max(1, min(length, TILE // max(columns, 1)))
        heads = max(1, TILE // max(rows * columns, 1)) if rows == length else 1
        buffers = self.q.matrices.new_empty(2, min(heads, count) * rows * columns)
        for first in range(0, length, rows):
            last = min(first + rows, length)
            # what is wholly in the future is not computed at all
            seen = min(last, columns) if self.causal else columns
            future = None
            if self.causal:
                # added to an infinite score, -inf would make what nobody may see undefined
                future = buffers.new_ones(last - first, seen).tril_(first).sub_(0.5).mul_(math.inf)
            for head in range(0, count, heads):
                across = slice(head, min(head + heads, count))
                yield Tile(self, across, slice(first, last), slice(0, seen), future, buffers)


@dataclass(frozen=True)
class Tile:
    """Some heads, some rows, and the columns that those rows may see."""

    scores: Scores
    heads: slice
    rows: slice
    columns: slice
    future: Tensor | None
    buffers: Tensor

    @property
    def place(self) -> tuple[slice, slice]:
        """Where the rows are in ``(heads, L, *)``."""
        return self.heads, self.rows

    def product(self, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """scale a b, in the first buffer."""
        return self._buffer(0, (*a.shape[:2], b.shape[2])).baddbmm_(a, b, beta=0, alpha=scale)

    def asked(self, x: Operand) -> Tensor:
        """The rows of ``x`` that are the rows of this tile."""
        return self._matrices(x)[:, self.rows]

    def seen(self, x: Operand) -> Tensor:
        """The rows of ``x`` that are the columns of this tile."""
        return self._matrices(x)[:, self.columns]

    def of(self, x: Tensor) -> Tensor:
        """The part of ``(heads, L, S)`` in this tile."""
        return x[self.heads, self.rows, self.columns]

    def probabilities(self) -> Tensor:
        """P, in the second buffer."""
        q, k, mask = self.asked(self.scores.q), self.seen(self.scores.k), self.scores.mask
        s = self.product(q, k.mT, self.scores.scale)
        if mask is not None:
            wide = mask.of_heads(self.heads)
            rows = self.rows if wide.shape[1] > 1 else slice(None)
            s += wide[:, rows, self.columns if wide.shape[2] > 1 else slice(None)]
        if self.future is not None:
            torch.minimum(s, self.future, out=s)
        p = torch.softmax(s, -1, out=self._buffer(1, s.shape))
        # a row that sees nothing
        return p.masked_fill_(s.amax(-1, keepdim=True) == -math.inf, 0)

    def _buffer(self, which: int, shape: tuple[int, ...]) -> Tensor:
        return self.buffers[which, : math.prod(shape)].view(shape)

    def _matrices(self, x: Operand) -> Tensor:
        return x.of_heads(self.heads).expand(self.heads.stop - self.heads.start, -1, -1)
