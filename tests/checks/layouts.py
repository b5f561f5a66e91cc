"""The same numbers laid out differently in memory, and inputs of unusual size."""

from __future__ import annotations

import torch
from torch import Tensor


def contiguous(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def transposed(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT if x.dim() > 1 else x


def step2(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1)[..., ::2] if x.dim() else x


def offset(x: Tensor) -> Tensor:
    """The last part of a larger tensor."""
    return torch.cat((x, x))[x.shape[0] :] if x.dim() else x


def expanded(x: Tensor) -> Tensor:
    return x.select(0, 0).expand(x.shape) if x.dim() and x.shape[0] else x


def channels_last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last) if x.dim() == 4 else x


def empty(x: Tensor) -> Tensor:
    return x[:0] if x.dim() else x


def scalar(x: Tensor) -> Tensor:
    return x.reshape(-1)[0] if x.numel() else x


DENSE = (contiguous, transposed, channels_last)
"""Layouts without gaps or overlaps: the gradient's strides must be the built-in's."""
SPARSE = (step2, offset, expanded)
SIZES = (empty, scalar)
