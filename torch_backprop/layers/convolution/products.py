r"""The three products of a convolution. LeCun et al. (1989), Neural Computation 1, 541-551.

They serve the derivation in :mod:`torch_backprop.layers.convolution.rule`, and are eqs. 9.8, 9.13 and 9.11 of
Goodfellow, Bengio & Courville (2016), "Deep Learning", with dilation and padding.

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
results, the first k count. Or it is a matrix product for each i, between y and what tap i of the kernel sees.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from torch_backprop.layers.convolution.geometry import Numbers, Steps
from torch_backprop.rule import first_order, widen

ONEDNN = (torch.float32, torch.bfloat16)
"""Dtypes whose convolutions on a CPU are more than a matrix product of unfolded columns."""

FEW_PAIRS = 4
"""Pairs of an input's and an output's channel in a group, up to which a group is taken plane by plane."""

FEW_TAPS = 3
"""Taps of a kernel up to which it is taken tap by tap."""

SMALL = 512
"""Elements of a volume that goes faster with its channels innermost."""

PART = 16
"""Samples of a part of the batch, at least; and parts, about as many at most."""

Convolve = Callable[[Tensor, Tensor, Steps], Tensor]


def correlate(convolve: Convolve, x: Tensor, w: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """The y of ``size`` from the larger side x."""
    if not x.numel():
        return x.new_zeros(x.shape[0], w.shape[0], *size)
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
    """The w of ``size`` from both sides, in the form that was measured to be the fastest."""
    channels, outputs = x.shape[1] // steps.groups, y.shape[1] // steps.groups
    if not x.numel() or not y.numel():
        return y.new_zeros(y.shape[1], channels, *size)
    if x.device.type == "cpu" and x.dtype == torch.float16:
        # of which there are no fast convolutions
        return gather(convolve, widen(x), widen(y), steps, size).to(x.dtype)
    x = _padded(x, _zeros(steps), steps.extra)
    onednn = x.device.type == "cpu" and x.dtype in ONEDNN
    if onednn and steps.groups > 1 and channels * outputs <= FEW_PAIRS:
        return _gather_planes(convolve, x, y, steps, size)
    if not onednn or math.prod(size) <= FEW_TAPS:
        return _gather_taps(x, y, steps, size)
    if x.dim() == 3:
        x, y, steps = x.unsqueeze(2), y.unsqueeze(2), _lifted(steps)
        return _gather_exchanged(convolve, x, y, steps, (1, *size)).squeeze(2)
    return _gather_exchanged(convolve, x, y, steps, size)


def is_innermost(x: Tensor) -> bool:
    """Whether the channels of an image or a volume are next to each other in memory."""
    return x.dim() > 3 and x.stride(1) == 1 and not x.is_contiguous()


def laid_out(x: Tensor, innermost: bool) -> Tensor:
    """The same numbers, contiguous in memory, the channels next to each other or not."""
    if not innermost:
        return x.contiguous()
    # by permutation, because under vmap a memory format cannot be asked for
    last = x.dim() - 1
    return x.permute(0, *range(2, last + 1), 1).contiguous().permute(0, last, *range(1, last))


def _gather_taps(x: Tensor, y: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """With a matrix product for each tap of the kernel."""
    batch, groups = x.shape[0], steps.groups
    channels, outputs = x.shape[1] // groups, y.shape[1] // groups
    x = _padded(x, steps.padding, steps.padding)
    lengths = [s * (n - 1) + 1 for s, n in zip(steps.stride, y.shape[2:], strict=True)]
    # a whole that is indexed becomes an alias, which is_grads_batched cannot batch
    whole = lengths == list(x.shape[2:]) and not any(s > 1 for s in steps.stride)
    columns = y.reshape(batch, groups, outputs, -1)
    taps = []
    for tap in itertools.product(*map(range, size)):
        starts = [i * d for i, d in zip(tap, steps.dilation, strict=True)]
        cuts = zip(starts, lengths, steps.stride, strict=True)
        seen = x if whole else x[(..., *(slice(start, start + length, s) for start, length, s in cuts))]
        taps.append((columns @ seen.reshape(batch, groups, channels, -1).mT).sum(0))
    return torch.stack(taps, -1).reshape(groups * outputs, channels, *size)


def _gather_exchanged(convolve: Convolve, x: Tensor, y: Tensor, steps: Steps, size: Numbers) -> Tensor:
    """With convolutions that have the batch for their channels, and sum over it.

    A large batch goes part by part, which is faster, and rounds less than one long sum.
    """
    groups, channels = steps.groups, x.shape[1] // steps.groups
    part = max(PART, x.shape[0] // PART) if first_order(x, y) else x.shape[0]
    sums = []
    for one, other in zip(x.split(part), y.split(part), strict=True):
        batch = one.shape[0]
        grouped = one.reshape(batch, groups, channels, *x.shape[2:]).transpose(0, 2)
        one, other = grouped.reshape(channels, groups * batch, *x.shape[2:]), other.transpose(0, 1)
        if x.dim() == 4 or math.prod(y.shape[2:]) <= SMALL:
            # so large a kernel goes up to twice as fast in this layout, but a volume half as fast
            one, other = laid_out(one, innermost=True), laid_out(other, innermost=True)
        sums.append(_first(convolve(one, other, _exchanged(steps, groups)), size))
    # in half precision this sum is taken in single
    return (torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]).transpose(0, 1)


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


def _padded(x: Tensor, before: Numbers, after: Numbers) -> Tensor:
    margins = [zeros for sides in zip(reversed(before), reversed(after), strict=True) for zeros in sides]
    return torch.constant_pad_nd(x, margins) if any(margins) else x


def _zeros(steps: Steps) -> Numbers:
    return (0,) * len(steps.stride)


def _first(x: Tensor, size: Numbers) -> Tensor:
    """The first elements of each dimension after the channels."""
    return x if x.shape[2:] == size else x[(..., *(slice(count) for count in size))]
