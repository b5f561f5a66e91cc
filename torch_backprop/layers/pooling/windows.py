"""The windows of a pooling layer: where along each axis they begin and end, and how many overlap.

They serve the derivations of ``averaging`` and ``selection``.
"""

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
class SlidingAxis:
    """An axis of ``size`` elements and its ``count`` windows of ``kernel`` elements."""

    size: int
    count: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    def start(self, device: torch.device) -> Tensor:
        """The first element of each window, which may lie outside the axis, as may the last."""
        return torch.arange(self.count, device=device) * self.stride - self.padding

    def stop(self, device: torch.device) -> Tensor:
        """What follows the last element of each window."""
        # where ceil_mode lets a window run over the padding, it ends there
        return (self.start(device) + self.reach + 1).clamp(max=self.size + self.padding)

    def first(self, element: Tensor) -> Tensor:
        """The first window that ends behind each element, of however many windows."""
        return ((element + self.padding - self.reach + self.stride - 1) // self.stride).clamp(min=0)

    def behind(self, element: Tensor) -> Tensor:
        """What follows the last window that begins at or before each element."""
        return ((element + self.padding) // self.stride + 1).clamp(max=self.count)

    @property
    def reach(self) -> int:
        """The distance from the first to the last element of a window, at most."""
        return (self.kernel - 1) * self.dilation

    @property
    def overlap(self) -> int:
        """The windows in which one element can be."""
        return -(-self.kernel // self.stride)

    @property
    def window(self) -> int:
        """The elements of each window of an even axis."""
        return self.kernel

    @property
    def even(self) -> bool:
        """Whether all elements are in as many windows."""
        return self.padding == 0 and self.kernel == self.stride and self.size == self.count * self.stride

    @property
    def sparse(self) -> bool:
        """Whether few elements are in a second window, and none in a third or in no window."""
        return False


@dataclass(frozen=True)
class AdaptiveAxis:
    """An axis of ``size`` n in ``count`` o parts: window i is floor(i n / o) <= j < ceil((i + 1) n / o)."""

    size: int
    count: int

    def start(self, device: torch.device) -> Tensor:
        """The first element of each window."""
        # in integers, because rounded quotients would move the borders on long axes
        return torch.arange(self.count, device=device) * self.size // max(self.count, 1)

    def stop(self, device: torch.device) -> Tensor:
        """What follows the last element of each window."""
        behind = torch.arange(1, self.count + 1, device=device) * self.size
        return (behind + self.count - 1) // max(self.count, 1)

    def first(self, element: Tensor) -> Tensor:
        """The first window that ends behind each element."""
        return element * self.count // self.size

    def behind(self, element: Tensor) -> Tensor:
        """What follows the last window that begins at or before each element."""
        return ((element + 1) * self.count + self.size - 1) // self.size

    @property
    def reach(self) -> int:
        """The distance from the first to the last element of a window, at most."""
        return -(-self.size // max(self.count, 1))

    @property
    def overlap(self) -> int:
        """The windows in which one element can be."""
        return -(-self.count // self.size) + (not self.even)

    @property
    def window(self) -> int:
        """The elements of each window of an even axis."""
        return max(self.size // self.count, 1)

    @property
    def even(self) -> bool:
        """Whether all elements are in as many windows."""
        return self.count > 0 and (self.size % self.count == 0 or self.count % self.size == 0)

    @property
    def sparse(self) -> bool:
        """Whether few elements are in a second window, and none in a third or in no window."""
        # from about four elements a window on, adding the shared ones beats a second selection (measured)
        return 0 < self.count <= self.size // 4


Axis = SlidingAxis | AdaptiveAxis


@dataclass(frozen=True)
class Sliding:
    """Windows that slide, in torch's arguments; no tuple, which a rule may not take under nested vmap."""

    dims: int
    kernel: Numbers
    stride: Numbers
    padding: Numbers
    dilation: Numbers = 1

    def axes(self, sizes: Sequence[int], counts: Sequence[int]) -> list[Axis]:
        """The axes of ``sizes``, on which torch has put ``counts`` windows."""
        kernel = each(self.kernel, self.dims)
        stride = each(self.stride, self.dims) or kernel
        padding, dilation = each(self.padding, self.dims), each(self.dilation, self.dims)
        numbers = zip(sizes, counts, kernel, stride, padding, dilation, strict=True)
        return [SlidingAxis(*of_axis) for of_axis in numbers]


@dataclass(frozen=True)
class Adaptive:
    """Windows that divide each axis into as many parts as the output has elements."""

    dims: int

    def axes(self, sizes: Sequence[int], counts: Sequence[int]) -> list[Axis]:
        """The axes of ``sizes``, divided into ``counts`` windows."""
        return [AdaptiveAxis(*of_axis) for of_axis in zip(sizes, counts, strict=True)]


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
