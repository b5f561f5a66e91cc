"""The windows of a pooling layer: where along each axis they begin and end, and how many overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Numbers = Any
"""An int, a sequence of one for all axes, or a sequence of one for each; None or empty for a default."""


@dataclass(frozen=True)
class Axis:
    """The windows along one axis: window i is the elements j with ``start[i] <= j < stop[i]``.

    Both bounds grow with i, and may lie outside the axis.

    Attributes:
        size: the elements on the axis.
        start: the first element of each window.
        stop: the element after its last.
        reach: the distance from the first to the last, at most.
        overlap: the windows that have an element in common, at most.
        even: whether every element is in as many windows.
    """

    size: int
    start: Tensor
    stop: Tensor
    reach: int
    overlap: int
    even: bool


@dataclass(frozen=True)
class Sliding:
    """Windows that slide, in torch's arguments; no tuple, which a rule may not take under nested vmap."""

    dims: int
    kernel: Numbers
    stride: Numbers
    padding: Numbers
    dilation: Numbers = 1

    def axes(self, sizes: Sequence[int], counts: Sequence[int], device: torch.device) -> list[Axis]:
        """The axes of ``sizes``, on which torch has put ``counts`` windows."""
        kernel, padding, dilation = (
            each(value, self.dims) for value in (self.kernel, self.padding, self.dilation)
        )
        stride = each(self.stride, self.dims) or kernel
        axes = []
        for n, o, k, s, p, d in zip(sizes, counts, kernel, stride, padding, dilation, strict=True):
            start = torch.arange(o, device=device) * s - p
            reach = (k - 1) * d
            # where ceil_mode lets the last window run over the padding, its end is that of the padding
            stop = (start + reach + 1).clamp(max=n + p)
            axes.append(Axis(n, start, stop, reach, -(-k // s), p == 0 and k == s and n == o * s))
        return axes


@dataclass(frozen=True)
class Adaptive:
    """Windows that divide n elements into o parts: window i has floor(i n / o) <= j < ceil((i + 1) n / o)."""

    dims: int

    def axes(self, sizes: Sequence[int], counts: Sequence[int], device: torch.device) -> list[Axis]:
        """The axes of ``sizes``, divided into ``counts`` windows."""
        axes = []
        for n, o in zip(sizes, counts, strict=True):
            i = torch.arange(o, device=device)
            parts = max(o, 1)
            start, stop = i * n // parts, ((i + 1) * n + parts - 1) // parts
            even = n % parts == 0 or parts % max(n, 1) == 0
            overlap = -(-parts // max(n, 1)) + (not even)
            axes.append(Axis(n, start, stop, -(-n // parts), overlap, even))
        return axes


def each(value: Numbers, dims: int) -> tuple[int, ...]:
    """One number for each of the axes; none of an argument that was left out."""
    if value is None:
        return ()
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    return numbers * dims if len(numbers) == 1 else numbers


def flattened(x: Tensor, dims: int) -> Tensor:
    """``(*, plane)`` of ``(*, d, h, w)``."""
    # not flatten, which is_grads_batched cannot batch; no -1, which is ambiguous without elements
    return x.reshape(*x.shape[: x.dim() - dims], math.prod(x.shape[x.dim() - dims :]))


def channels_last(x: Tensor, dims: int) -> bool:
    """Whether a batch ``(N, C, *)`` has its channels innermost in memory."""
    return x.dim() == dims + 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
