"""Affine maps, normalization, attention, and what only moves or pads elements."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.spec import Draw

from .twin import Twin

IMAGE = ((2, 4, 4, 4),)
INDICES = Draw((3,), "classes", 5)


def standardize(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    centred = x - x.mean(axes, True)
    return centred / (centred.square().mean(axes, True) + 1e-5).sqrt()


def group_norm(x: Tensor) -> Tensor:
    return standardize(x.unflatten(1, (2, -1)), (2, 3, 4)).flatten(1, 2)


def rms_norm(x: Tensor, w: Tensor) -> Tensor:
    return w * x / (x.square().mean(-1, True) + 1e-5).sqrt()


def response_norm(x: Tensor) -> Tensor:
    squares = F.pad(x.square(), (0, 0, 0, 0, 1, 1))
    return x / (1 + 1e-4 * (squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]) / 3) ** 0.75


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def bilinear(u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("...i,oij,...j->...o", u, w, v)


def shuffle(x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def pixel_shuffle(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)


def pixel_unshuffle(x: Tensor) -> Tensor:
    cells = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def reflect(x: Tensor) -> Tensor:
    return torch.cat((x[..., 1:2], x, x[..., -2:-1]), -1)


def replicate(x: Tensor) -> Tensor:
    return torch.cat((x[..., :1], x, x[..., -1:]), -1)


def circular(x: Tensor) -> Tensor:
    return torch.cat((x[..., -1:], x, x[..., :1]), -1)


def constant(x: Tensor) -> Tensor:
    side = x.new_zeros(*x.shape[:-1], 1)
    return torch.cat((side, x, side), -1)


def batch_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return standardize(x, (0,)) * w + b


def layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return standardize(x, (-1,)) * w + b


TWINS = (
    Twin("linear", F.linear, lambda x, w, b: x @ w.mT + b, ((3, 4), (2, 4), (2,))),
    Twin("bilinear", F.bilinear, bilinear, ((3, 4), (3, 5), (2, 4, 5))),
    Twin("embedding", F.embedding, lambda i, w: w[i], (INDICES, (5, 3))),
    Twin("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), layer_norm, ((3, 4), (4,), (4,))),
    Twin("rms_norm", lambda x, w: F.rms_norm(x, (4,), w, 1e-5), rms_norm, ((3, 4), (4,))),
    Twin("group_norm", lambda x: F.group_norm(x, 2), group_norm, IMAGE),
    Twin("instance_norm", F.instance_norm, lambda x: standardize(x, (2, 3)), IMAGE),
    Twin(
        "batch_norm",
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        batch_norm,
        ((5, 3), (3,), (3,)),
    ),
    Twin("local_response_norm", lambda x: F.local_response_norm(x, 3), response_norm, IMAGE),
    Twin("attention", F.scaled_dot_product_attention, attention, ((2, 3, 4), (2, 5, 4), (2, 5, 4))),
    Twin("channel_shuffle", lambda x: F.channel_shuffle(x, 2), shuffle, IMAGE),
    Twin("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), pixel_shuffle, IMAGE),
    Twin("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), pixel_unshuffle, IMAGE),
    Twin("pad constant", lambda x: F.pad(x, (1, 1)), constant, ((2, 3, 5),)),
    Twin("pad reflect", lambda x: F.pad(x, (1, 1), mode="reflect"), reflect, ((2, 3, 5),)),
    Twin("pad replicate", lambda x: F.pad(x, (1, 1), mode="replicate"), replicate, ((2, 3, 5),)),
    Twin("pad circular", lambda x: F.pad(x, (1, 1), mode="circular"), circular, ((2, 3, 5),)),
    Twin(
        "interpolate nearest",
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: x.repeat_interleave(2, -1),
        ((2, 3, 5),),
    ),
    Twin("dropout in evaluation", lambda x: F.dropout(x, training=False), lambda x: x, ((3, 4),)),
)
