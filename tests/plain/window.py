"""Convolutions and pooling, as sums over windows."""

import torch.nn.functional as F
from torch import Tensor

from .twin import Twin


def windows(x: Tensor, size: int, step: int, dims: int) -> Tensor:
    """The windows over the last ``dims`` axes, as ``dims`` more axes at the end."""
    for axis in range(x.dim() - dims, x.dim()):
        x = x.unfold(axis, size, step)
    return x


def average(x: Tensor, dims: int) -> Tensor:
    return windows(x, 2, 2, dims).flatten(-dims).mean(-1)


def largest(x: Tensor, dims: int) -> Tensor:
    return windows(x, 2, 2, dims).flatten(-dims).max(-1).values


def power(x: Tensor, dims: int) -> Tensor:
    return windows(x, 2, 2, dims).flatten(-dims).square().sum(-1).sqrt()


def convolve(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dims = w.dim() - 2
    columns = windows(x, w.shape[-1], 1, dims).flatten(-dims).movedim(1, -2).flatten(-2)
    return (columns @ w.flatten(1).T + b).movedim(-1, 1)


def convolve_transposed(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    margin = [w.shape[-1] - 1] * 2 * (w.dim() - 2)
    return convolve(F.pad(x, margin), w.flip(tuple(range(2, w.dim()))).transpose(0, 1), b)


TWINS = (
    Twin("conv1d", F.conv1d, convolve, ((2, 3, 6), (4, 3, 2), (4,))),
    Twin("conv2d", F.conv2d, convolve, ((2, 3, 5, 5), (4, 3, 2, 2), (4,))),
    Twin("conv3d", F.conv3d, convolve, ((2, 2, 3, 3, 3), (3, 2, 2, 2, 2), (3,))),
    Twin("conv_transpose1d", F.conv_transpose1d, convolve_transposed, ((2, 3, 5), (3, 4, 2), (4,))),
    Twin("conv_transpose2d", F.conv_transpose2d, convolve_transposed, ((2, 3, 4, 4), (3, 4, 2, 2), (4,))),
    Twin("avg_pool1d", lambda x: F.avg_pool1d(x, 2), lambda x: average(x, 1), ((2, 3, 6),)),
    Twin("avg_pool2d", lambda x: F.avg_pool2d(x, 2), lambda x: average(x, 2), ((2, 3, 4, 4),)),
    Twin("avg_pool3d", lambda x: F.avg_pool3d(x, 2), lambda x: average(x, 3), ((2, 2, 4, 4, 4),)),
    Twin("max_pool1d", lambda x: F.max_pool1d(x, 2), lambda x: largest(x, 1), ((2, 3, 6),)),
    Twin("max_pool2d", lambda x: F.max_pool2d(x, 2), lambda x: largest(x, 2), ((2, 3, 4, 4),)),
    Twin("max_pool3d", lambda x: F.max_pool3d(x, 2), lambda x: largest(x, 3), ((2, 2, 4, 4, 4),)),
    Twin("lp_pool1d", lambda x: F.lp_pool1d(x, 2, 2), lambda x: power(x, 1), ((2, 3, 6),)),
    Twin("lp_pool2d", lambda x: F.lp_pool2d(x, 2, 2), lambda x: power(x, 2), ((2, 3, 4, 4),)),
    Twin(
        "adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 1), lambda x: x.mean(-1, True), ((2, 3, 5),)
    ),
    Twin(
        "adaptive_avg_pool2d",
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean((-2, -1), True),
        ((2, 3, 4, 4),),
    ),
    Twin(
        "adaptive_avg_pool3d",
        lambda x: F.adaptive_avg_pool3d(x, 1),
        lambda x: x.mean((-3, -2, -1), True),
        ((2, 3, 2, 2, 2),),
    ),
    Twin(
        "adaptive_max_pool1d",
        lambda x: F.adaptive_max_pool1d(x, 1),
        lambda x: x.max(-1, keepdim=True).values,
        ((2, 3, 5),),
    ),
    Twin(
        "adaptive_max_pool2d",
        lambda x: F.adaptive_max_pool2d(x, 1),
        lambda x: x.flatten(-2).max(-1).values[..., None, None],
        ((2, 3, 4, 4),),
    ),
    Twin(
        "unfold",
        lambda x: F.unfold(x, 2),
        lambda x: windows(x, 2, 1, 2).movedim((-2, -1), (2, 3)).flatten(4).flatten(1, 3),
        ((2, 3, 4, 4),),
    ),
)
