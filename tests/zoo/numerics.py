"""Right on paper, wrong in floating point: overflow, saturation, kinks, dtypes, cancellation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .plant import Plant, rule


def pull_sigmoid_by_exp(g: Tensor, x: Tensor) -> Tensor:
    e = torch.exp(-x)
    return g * e / (1 + e).square()


def pull_sigmoid(g: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return g * (s * (1 - s))


def pull_hypot_by_squares(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return (g * x / torch.sqrt(x * x + w * w)).sum_to_size(x.shape)


def pull_hypot(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return (g * (x / torch.hypot(x, w))).sum_to_size(x.shape)


def pull_elu_by_mask(g: Tensor, x: Tensor) -> Tensor:
    above = (x > 0).to(x.dtype)
    return g * (above + (1 - above) * x.exp())


def pull_elu(g: Tensor, x: Tensor) -> Tensor:
    return torch.where(x > 0, g, g * x.clamp(max=0).exp())


def standard_deviation(x: Tensor) -> Tensor:
    return torch.std(x, -1, correction=0)


def pull_standard_deviation(g: Tensor, x: Tensor, deviation: Tensor) -> Tensor:
    centred = (x - x.mean(-1, keepdim=True)).conj()
    slope = (g / deviation).masked_fill(deviation == 0, 0)
    return slope.unsqueeze(-1) * centred / x.shape[-1]


def deviation_by_moments(x: Tensor) -> Tensor:
    return (x.square().mean(-1) - x.mean(-1).square()).clamp(min=0).sqrt()


def pull_product(g: Tensor, x: Tensor) -> Tensor:
    """The products of the others, from both sides, so that no zero is divided by."""
    flat = x.reshape(-1)
    one = flat.new_ones(1)
    left = torch.cat((one, flat))[:-1].cumprod(0)
    right = torch.cat((one, flat.flip(0)))[:-1].cumprod(0).flip(0)
    return g * (left * right).reshape(x.shape)


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float() if x.dtype == torch.float32 else x


def smooth(x: Tensor) -> Tensor:
    return x @ torch.full((x.shape[-1], x.shape[-1]), 0.5, dtype=x.dtype)


def pull_smooth(g: Tensor, dtype: torch.dtype) -> Tensor:
    return g @ torch.full((g.shape[-1], g.shape[-1]), 0.5, dtype=dtype)


PLANTS = (
    Plant(
        "sigmoid's slope by an exponential that overflows",
        "overflow-nan",
        rule(torch.sigmoid, pull_sigmoid_by_exp),
        rule(torch.sigmoid, pull_sigmoid),
        ((4, 3),),
        torch.sigmoid,
    ),
    Plant(
        "log of sigmoid by 1 - s, which saturates",
        "saturated-zero",
        rule(F.logsigmoid, lambda g, x: g * (1 - torch.sigmoid(x))),
        rule(F.logsigmoid, lambda g, x: g * torch.sigmoid(-x)),
        ((4, 3),),
        F.logsigmoid,
    ),
    Plant(
        "hypotenuse whose squares overflow",
        "saturated-zero",
        rule(torch.hypot, pull_hypot_by_squares, lambda g, x, w: pull_hypot_by_squares(g, w, x)),
        rule(torch.hypot, pull_hypot, lambda g, x, w: pull_hypot(g, w, x)),
        ((4, 3), (4, 3)),
        torch.hypot,
    ),
    Plant(
        "absolute value by x / |x|",
        "nan-at-kink",
        rule(torch.abs, lambda g, x: g * x / x.abs()),
        rule(torch.abs, lambda g, x: g * x.conj().sgn()),
        ((4, 3),),
        torch.abs,
    ),
    Plant(
        "elu that multiplies the other branch by zero",
        "overflow-nan",
        rule(F.elu, pull_elu_by_mask),
        rule(F.elu, pull_elu),
        ((4, 3),),
        F.elu,
    ),
    Plant(
        "product by division",
        "nan-at-kink",
        rule(torch.prod, lambda g, x: g * x.prod() / x),
        rule(torch.prod, pull_product),
        ((5,),),
        torch.prod,
    ),
    Plant(
        "product by division, except by zero",
        "zero-values",
        rule(torch.prod, lambda g, x: torch.where(x == 0, 0, g * x.prod() / x)),
        rule(torch.prod, pull_product),
        ((5,),),
        torch.prod,
    ),
    Plant(
        "gradient held in integers",
        "rounded-gradient",
        rule(lambda x: 2 * x, lambda g, x: (2 * g).long().to(x.dtype)),
        rule(lambda x: 2 * x, lambda g, x: 2 * g),
        ((4, 3),),
    ),
    Plant(
        "gradient returned in single precision",
        "wrong-dtype",
        rule(torch.sin, lambda g, x: (g * x.cos()).float()),
        rule(torch.sin, lambda g, x: g * x.cos()),
        ((4, 3),),
    ),
    Plant(
        "cosine taken in single precision",
        "float32-inside",
        rule(torch.sin, lambda g, x: g * x.float().cos().to(x.dtype)),
        rule(torch.sin, lambda g, x: g * x.cos()),
        ((4, 3),),
    ),
    Plant(
        "linear that forgets the dtype autocast chose",
        "autocast",
        rule(torch.mm, lambda g, x, w: g @ w.mT, lambda g, x, w: x.mT @ g),
        rule(torch.mm, lambda g, x, w: g.to(w.dtype) @ w.mT, lambda g, x, w: x.mT @ g.to(x.dtype)),
        ((4, 3), (3, 2)),
    ),
    Plant(
        "variance by moments",
        "cancellation",
        rule(standard_deviation, lambda g, x: pull_standard_deviation(g, x, deviation_by_moments(x))),
        rule(standard_deviation, lambda g, x: pull_standard_deviation(g, x, standard_deviation(x))),
        ((4, 6),),
        standard_deviation,
    ),
    Plant(
        "float32 rounded to fewer bits, as TF32 does",
        "low-precision",
        rule(torch.sin, lambda g, x: g * rounded(x).cos()),
        rule(torch.sin, lambda g, x: g * x.cos()),
        ((4, 3),),
    ),
    Plant(
        "a table of float64 in the backward pass",
        "hard-coded-dtype",
        rule(smooth, lambda g, x: pull_smooth(g, torch.float64)),
        rule(smooth, lambda g, x: pull_smooth(g.to(x.dtype), x.dtype)),
        ((4, 3),),
    ),
)
