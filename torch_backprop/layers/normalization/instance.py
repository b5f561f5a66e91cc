"""Instance normalization. Ulyanov, Vedaldi & Lempitsky (2016), arXiv:1607.08022, section 2.

Wu & He (2018), arXiv:1803.08494, eqs. 1, 2, 5 and 6.

Each channel of each sample is standardized over its positions. With the N samples of C channels seen as one
sample of N C channels that is batch normalization: its derivation is that of ``batch``. The running
statistics are the means over the samples of what N C channels would have.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import _verify_spatial_size  # pyright: ignore[reportAttributeAccessIssue]

from torch_backprop.layers.normalization.batch import BatchNormRule, RunningNormRule, differentiated
from torch_backprop.spec import LayerSpec, case


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardizes each channel of each sample, then scales and shifts.

    As :func:`torch.nn.functional.instance_norm`.

    Args:
        input: ``(N, C, *)``.
        running_mean: ``(C)``; it moves towards the mean of the input if that is used, else it is used for it.
        running_var: ``(C)``, the same of the variance.
        weight: ``(C)``.
        bias: ``(C)``.
        use_input_stats: whether to standardize with the moments of the input.
        momentum: the share of the input in the running statistics, in [0, 1].
        eps: added to the variance.

    Raises:
        ValueError: a single position, in torch's words.
        RuntimeError: shapes or dtypes that do not fit, or running statistics that require a gradient, in
            torch's words.
    """
    if use_input_stats:
        _verify_spatial_size(input.size())
    running = running_mean, running_var
    tracked = all(map(torch.is_tensor, running))
    if input.dim() < 2 or not (use_input_stats or tracked) or differentiated(*running):
        # raises
        return F.instance_norm(input, *running, weight, bias, use_input_stats, momentum, eps)
    samples, channels, *positions = input.shape
    # every channel of every sample is a channel of its own
    merged = input.contiguous().view(1, samples * channels, *positions)
    dtype = input.dtype if weight is None else weight.dtype
    # batch norm moves a copy for each sample; what torch keeps is their mean
    moved = [None if buffer is None else buffer.to(dtype).repeat(samples) for buffer in running]
    repeated = [None if parameter is None else parameter.repeat(samples) for parameter in (weight, bias)]
    if not use_input_stats:
        return RunningNormRule.call(merged, *repeated, *moved, eps).view(input.shape)
    # with the statistics of the input the running ones have no part in the derivative
    y, *_ = BatchNormRule.call(merged, *repeated, *moved, momentum, eps)
    for buffer, statistics in zip(running, moved, strict=True):
        if buffer is not None and statistics is not None:
            buffer.copy_(statistics.view(samples, channels).mean(0))
    return y.view(input.shape)


class InstanceNorm1d(torch.nn.InstanceNorm1d):
    """Drop-in for :class:`torch.nn.InstanceNorm1d`.

    Maps ``(N, C, L)`` or ``(C, L)`` to the same shape.
    """

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return _applied(self, input)


class InstanceNorm2d(torch.nn.InstanceNorm2d):
    """Drop-in for :class:`torch.nn.InstanceNorm2d`.

    Maps ``(N, C, H, W)`` or ``(C, H, W)`` to the same shape.
    """

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return _applied(self, input)


class InstanceNorm3d(torch.nn.InstanceNorm3d):
    """Drop-in for :class:`torch.nn.InstanceNorm3d`.

    Maps ``(N, C, D, H, W)`` or ``(C, D, H, W)`` to the same shape.
    """

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return _applied(self, input)


def _applied(layer: Any, input: Tensor) -> Tensor:
    """The step of torch's forward pass that computes; what it checks and warns of before is as it was."""
    by_input = layer.training or not layer.track_running_stats
    momentum = 0.0 if layer.momentum is None else layer.momentum
    running = layer.running_mean, layer.running_var
    return instance_norm(input, *running, layer.weight, layer.bias, by_input, momentum, layer.eps)


SPECS = (
    LayerSpec(
        InstanceNorm1d,
        torch.nn.InstanceNorm1d,
        (
            case((2, 3, 8), num_features=3, affine=True, eps=0.1),
            case((3, 8), num_features=3, track_running_stats=True),
            case((2, 3, 4), num_features=3, affine=True, track_running_stats=True, train=False),
        ),
        large=case((32, 64, 1024), num_features=64),
    ),
    LayerSpec(
        InstanceNorm2d,
        torch.nn.InstanceNorm2d,
        (
            case((2, 3, 4, 2), num_features=3, affine=True, track_running_stats=True, momentum=0.3),
            case((3, 4, 2), num_features=3, affine=True, bias=False),
        ),
        large=case((32, 64, 32, 32), num_features=64),
    ),
    LayerSpec(
        InstanceNorm3d,
        torch.nn.InstanceNorm3d,
        (
            case((2, 3, 2, 3, 2), num_features=3),
            case((2, 3, 2, 1, 2), num_features=3, track_running_stats=True, train=False),
        ),
        large=case((4, 32, 16, 32, 32), num_features=32),
    ),
)
