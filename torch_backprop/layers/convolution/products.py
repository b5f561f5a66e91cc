r"""The three products of a convolution. LeCun et al. (1989), Neural Computation 1, 541-551.

In one dimension, with stride s, padding p and dilation d, a larger side x of size m, a smaller side y of size
n and a kernel w of size k (more dimensions have more such indices, and each group its own channels):

    correlate  y_no[t] = sum_ci x_nc[s t + d i - p] w_oc[i]
    spread     x_nc[u] = sum_oi y_no[t] w_oc[i]                  over all t, i with s t + d i - p = u
    gather     w_oc[i] = sum_nt x_nc[s t + d i - p] y_no[t]

All three are the form sum x_nc[s t + d i - p] w_oc[i] y_no[t] less one factor, so each is the gradient of
the other two. ``spread`` is the transposed convolution. As m + 2p - d (k - 1) - 1 need not be a multiple of
s, the remainder is its output padding (Dumoulin & Visin 2016, arXiv:1603.07285, relationship 14).

``gather`` is a convolution once more, in which t and i have changed places, and stride and dilation with
them: batch and channels are exchanged, and y is the kernel. Where the remainder leaves room for more than k
results, the first k count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.convolution.geometry import Numbers, Steps
from torch_backprop.rule import first_order

FEW = 4
"""Pairs of an input's and an output's channel in a group, up to which a group is taken plane by plane."""

PART = 16
"""Samples of a part of the batch, at least; and parts, about as many at most."""

Convolve = Callable[[Tensor, Tensor, Steps], Tensor]


def correlate(convolve: Convolve, x: Tensor, w: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """The y of ``size`` from the larger side x."""
    none = _zeros(steps)
    y = convolve(x, w, Steps(steps.stride, steps.padding, steps.dilation, steps.groups, none, none))
    # an output padding that reaches a whole stride belongs to no y
    return _first(y, size)


def spread(convolve: Convolve, y: Tensor, w: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """The x of ``size`` from the smaller side y."""
    padded = [m + e + 2 * p for m, e, p in zip(size, steps.extra, steps.padding, strict=True)]
    reached = [
        s * (n - 1) + d * (k - 1) + 1
        for s, n, d, k in zip(steps.stride, y.shape[2:], steps.dilation, w.shape[2:], strict=True)
    ]
    remainder = tuple(a - b for a, b in zip(padded, reached, strict=True))
    options = steps.stride, steps.padding, steps.dilation, steps.groups
    return _first(convolve(y, w, Steps(*options, _zeros(steps), remainder, transposed=True)), size)


def gather(convolve: Convolve, x: Tensor, y: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """The w of ``size`` from both sides.

    A large batch goes part by part, which is faster, and rounds less than one long sum.
    """
    channels, outputs = x.shape[1] // steps.groups, y.shape[1] // steps.groups
    if not y.numel():
        return y.new_zeros(y.shape[1], channels, *size)
    if any(steps.extra):
        x = F.pad(x, [zeros for extra in reversed(steps.extra) for zeros in (0, extra)])
    if steps.groups > 1 and channels * outputs <= FEW:
        return _gather_planes(convolve, x, y, steps, size)
    if x.dim() == 3:
        x, y, steps = x.unsqueeze(2), y.unsqueeze(2), _lifted(steps)
        return gather(convolve, x, y, steps, (1, *size)).squeeze(2)
    part = max(PART, x.shape[0] // PART) if first_order(x, y) else x.shape[0]
    sums = [
        _gather_exchanged(convolve, *sides, steps, size)
        for sides in zip(x.split(part), y.split(part), strict=True)
    ]
    return sum(sums[1:], sums[0])


def is_innermost(x: Tensor) -> bool:
    """Whether the channels of an image or a volume are next to each other in memory."""
    return x.dim() > 3 and x.stride(1) == 1 and not x.is_contiguous()


def channels_innermost(x: Tensor) -> Tensor:
    """The same numbers, with the channels next to each other in memory."""
    # by permutation, because under vmap a memory format cannot be asked for
    last = x.dim() - 1
    return x.permute(0, *range(2, last + 1), 1).contiguous().permute(0, last, *range(1, last))


def _gather_exchanged(convolve: Convolve, x: Tensor, y: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """With the batch as the channels of the convolution, which sums over it."""
    batch, groups = x.shape[0], steps.groups
    channels = x.shape[1] // groups
    x = x.reshape(batch, groups, channels, *x.shape[2:]).transpose(0, 2)
    x, y = x.reshape(channels, groups * batch, *x.shape[3:]), y.transpose(0, 1)
    if x.dim() == 4 and x.device.type == "cpu":
        # so large a kernel goes up to twice as fast in this layout; in three dimensions half as fast
        x, y = channels_innermost(x), channels_innermost(y)
    return _first(convolve(x, y, _exchanged(steps, groups)), size).transpose(0, 1)


def _gather_planes(convolve: Convolve, x: Tensor, y: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """With a convolution of one channel for each pair of planes, and the sum over the batch after it."""
    batch, groups = x.shape[0], steps.groups
    channels, outputs = x.shape[1] // groups, y.shape[1] // groups
    pairs = (batch, groups, outputs, channels)
    x = x.reshape(batch, groups, 1, channels, *x.shape[2:]).expand(*pairs, *x.shape[2:])
    y = y.reshape(batch, groups, outputs, 1, *y.shape[2:]).expand(*pairs, *y.shape[2:])
    planes = math.prod(pairs)
    x, y = x.reshape(1, planes, *x.shape[4:]), y.reshape(planes, 1, *y.shape[4:])
    w = _first(convolve(x, y, _exchanged(steps, planes)), size)
    return w.reshape(batch, groups * outputs, channels, *size).sum(0)


def _exchanged(steps: Steps, groups: int) -> Steps:
    none = _zeros(steps)
    return Steps(steps.dilation, steps.padding, steps.stride, groups, none, none)


def _lifted(steps: Steps) -> Steps:
    """The same in two dimensions, the first of size one."""
    return Steps((1, *steps.stride), (0, *steps.padding), (1, *steps.dilation), steps.groups, (0, 0), (0, 0))


def _zeros(steps: Steps) -> Numbers:
    return (0,) * len(steps.stride)


def _first(x: Tensor, size: Numbers) -> Tensor:
    """The first elements of each dimension after the channels."""
    if x.shape[2:] == size:
        return x
    first = x[(..., *(slice(count) for count in size))]
    return channels_innermost(first) if is_innermost(x) else first.contiguous()
