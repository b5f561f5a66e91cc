"""The first-order backward pass where channels have coefficients in common: batch and group norm.

It serves the derivations of ``batch`` and ``group``.

With the saved m and r of each group of channels of n elements, d = x - m, and s = sum g and t = sum g d over
each channel, of a sample or of all samples:

    dL/dx = a g + b x + c    a = r w    b = -r^3 sum(w t) / n    c = -r sum(w s) / n - b m
    dL/dw = sum r t          dL/db = sum s

where w t and w s are summed over the channels of the group (in batch norm it has but one), r t and s over the
samples. So h is never formed: one pass over g and x for the sums, one for dL/dx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import TILE
from torch_backprop.rule import widen


def pull_channels(
    g: Tensor, x: Tensor, w: Tensor | None, m: Tensor, r: Tensor, shared: bool, needs_x: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients by x, if needed, and by w and b, of plain tensors.

    ``m`` and ``r`` are ``(C)``, or ``(N, groups)`` if samples do not share them.
    """
    samples, channels = 1 if shared else x.shape[0], x.shape[1]
    m, r = (widen(statistic).reshape(samples, -1, 1) for statistic in (m, r))
    grouped = (samples, m.shape[1], channels // m.shape[1])

    def spread(c: Tensor) -> Tensor:
        return c.expand(grouped).reshape(samples, channels)

    layout = Channels.of(x, shared)
    # made before the sums, which use it as their spare tile
    grad_x = torch.empty_like(layout.seen(x))
    s, t = (total.reshape(grouped) for total in layout.sums(g, x, spread(m), grad_x))
    weight = torch.ones_like(r[:1]) if w is None else widen(w).reshape(1, *grouped[1:])
    # r / n: n elements stand behind each of the statistics
    share = r * m.numel() / x.numel()
    b = -r * r * share * (weight * t).sum(2, keepdim=True)
    c = -share * (weight * s).sum(2, keepdim=True) - b * m
    if needs_x:
        layout.combine(grad_x, g, x, *map(spread, (r * weight, b, c)))
    return layout.restored(grad_x) if needs_x else None, (r * t).sum(0), s.sum(0)


@dataclass(frozen=True)
class Channels:
    """How ``(N, C, *)`` lies in memory: seen as ``(P, M, Q)``, the M elements of a channel in the middle.

    That is ``(N C, *, 1)``; or with the channels last ``(N, *, C)``, or ``(1, N *, C)`` if samples share.
    """

    shape: torch.Size
    last: bool
    shared: bool

    @classmethod
    def of(cls, x: Tensor, shared: bool) -> Channels:
        """That of x, whose samples share the coefficients of a channel or have their own."""
        return cls(x.shape, x.dim() == 2 or are_last(x), shared)

    def seen(self, x: Tensor) -> Tensor:
        """x as ``(P, M, Q)``."""
        samples, channels = self.shape[:2]
        if self.last:
            return x.movedim(1, -1).reshape(1 if self.shared else samples, -1, channels)
        return x.reshape(samples * channels, -1, 1)

    def restored(self, seen: Tensor) -> Tensor:
        """``(P, M, Q)`` as ``(N, C, *)``."""
        if self.last:
            return seen.reshape(self.shape[0], *self.shape[2:], self.shape[1]).movedim(-1, 1)
        return seen.reshape(self.shape)

    def along(self, c: Tensor) -> Tensor:
        """Coefficients ``(N, C)``, or ``(1, C)`` if samples share them, as ``(P, 1, Q)``."""
        if self.last:
            return c.unsqueeze(1)
        return c.expand(self.shape[:2]).reshape(-1, 1, 1)

    def sums(self, g: Tensor, x: Tensor, m: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of g and g d over each channel, as ``(N, C)`` or ``(1, C)``; ``spare`` is overwritten."""
        means = self.along(widen(m))
        by_g, by_gd = torch.zeros_like(means), torch.zeros_like(means)
        # one tile for all: its pages are mapped once, those of a new tensor perhaps for every tile
        spare = next(_tiles(spare))[0]
        spare = spare if spare.dtype == means.dtype else torch.empty_like(spare, dtype=means.dtype)
        for g_tile, x_tile, m_tile, g_sum, gd_sum in _tiles(self.seen(g), self.seen(x), means, by_g, by_gd):
            g_tile = widen(g_tile)
            d = torch.sub(widen(x_tile), m_tile, out=spare[: x_tile.shape[0], : x_tile.shape[1]])
            g_sum += g_tile.sum(1, keepdim=True)
            gd_sum += d.mul_(g_tile).sum(1, keepdim=True)
        by_g, by_gd = (s.reshape(-1, self.shape[1]) for s in (by_g, by_gd))
        return (by_g.sum(0, keepdim=True), by_gd.sum(0, keepdim=True)) if self.shared else (by_g, by_gd)

    def combine(self, grad_x: Tensor, g: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
        """Writes a g + b x + c."""
        coefficients = map(self.along, (a, b, c))
        for out, g_tile, x_tile, *abc in _tiles(grad_x, self.seen(g), self.seen(x), *coefficients):
            # outside half precision the result is its own accumulator
            wide = out if out.dtype == abc[0].dtype else torch.empty_like(out, dtype=abc[0].dtype)
            torch.mul(widen(x_tile), abc[1], out=wide).add_(abc[2]).addcmul_(widen(g_tile), abc[0])
            if wide is not out:
                out.copy_(wide)


def are_last(x: Tensor) -> bool:
    """Whether in memory the channels of ``(N, C, *)`` come last, and not where they do in a contiguous x."""
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def _tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors ``(P, M, Q)`` along P, or along M if P is 1; of what is one there all have the whole."""
    first = tensors[0]
    dim = 0 if first.shape[0] > 1 else 1
    length = max(1, first.shape[dim] * TILE // max(first.numel(), 1))
    cut = (x.split(length, dim) if x is first or x.shape[dim] > 1 else repeat(x) for x in tensors)
    return zip(*cut, strict=False)
