"""Wrong mathematics: the number that comes back is not the derivative."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.spec import Draw

from .plant import Plant, rule


def linear(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.mT


def scale_rows(x: Tensor, s: Tensor) -> Tensor:
    return x * s.unsqueeze(-1)


def pull_scale(g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    return (g * x).sum(-1).sum_to_size(s.shape)


def mse(x: Tensor, t: Tensor) -> Tensor:
    return (x - t).square().mean()


def squared_error(x: Tensor, t: Tensor) -> Tensor:
    return (x - t).square()


def huber(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 5, x * x / 2, 5 * x.abs() - 12.5)


def times_square(x: Tensor, w: Tensor) -> Tensor:
    return x * w * w


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


def pull_rms(g: Tensor, x: Tensor, eps: float) -> Tensor:
    r = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return r * (g - x * r * r * (g * x).mean(-1, keepdim=True))


def pull_swish(g: Tensor, x: Tensor, slope: float) -> Tensor:
    s = torch.sigmoid(slope * x)
    return g * s * (1 + slope * x * (1 - s))


def pull_softmax(g: Tensor, x: Tensor, dim: int) -> Tensor:
    y = x.softmax(-1)
    return y * (g - (g * y).sum(dim, keepdim=True))


def pull_max(g: Tensor, x: Tensor, near: Tensor) -> Tensor:
    return near * g.unsqueeze(-1)


def tied(x: Tensor) -> Tensor:
    ties = (x == x.amax(-1, keepdim=True)).to(x.dtype)
    return ties / ties.sum(-1, keepdim=True)


def pull_by_name(g: Tensor, x: Tensor, w: Tensor, wanted: Tensor) -> Tensor:
    grads = {x.data_ptr(): g * w * w, w.data_ptr(): 2 * g * x * w}
    return grads[wanted.data_ptr()]


def pick(x: Tensor, index: Tensor) -> Tensor:
    return x[index]


def embed(index: Tensor, w: Tensor) -> Tensor:
    return F.embedding(index, w, padding_idx=0)


def pull_embed(g: Tensor, index: Tensor, w: Tensor) -> Tensor:
    return torch.zeros_like(w).index_put((index,), g, accumulate=True)


def ignoring(x: Tensor, t: Tensor) -> Tensor:
    return F.nll_loss(x, t, ignore_index=-100)


def ignoring_sum(x: Tensor, t: Tensor) -> Tensor:
    return F.nll_loss(x, t, ignore_index=-100, reduction="sum")


def pull_picked(g: Tensor, x: Tensor, t: Tensor, weight: Tensor | int) -> Tensor:
    column = torch.zeros_like(t, dtype=x.dtype) - g * weight
    return torch.zeros_like(x).scatter(1, t.clamp(min=0).unsqueeze(1), column.unsqueeze(1))


def pull_ignoring(g: Tensor, x: Tensor, t: Tensor, least: int) -> Tensor:
    valid = t != -100
    return pull_picked(g / valid.sum().clamp(min=least), x, t, valid)


PLANTS = (
    Plant(
        "linear whose dL/dw is transposed",
        "transposed-gradient",
        rule(linear, lambda g, x, w: g.to(w) @ w, lambda g, x, w: x.mT @ g.to(x)),
        rule(linear, lambda g, x, w: g.to(w) @ w, lambda g, x, w: g.mT.to(x) @ x),
        ((4, 4), (4, 4)),
    ),
    Plant(
        "mean over rows divided by the number of columns",
        "size-factor",
        rule(lambda x: x.mean(0), lambda g, x: (g / x.shape[-1]).expand_as(x)),
        rule(lambda x: x.mean(0), lambda g, x: (g / x.shape[0]).expand_as(x)),
        ((4, 4),),
    ),
    Plant(
        "softmax over the last axis, summed over axis 1",
        "extra-dimension",
        rule(lambda x: x.softmax(-1), lambda g, x: pull_softmax(g, x, min(1, x.dim() - 1))),
        rule(lambda x: x.softmax(-1), lambda g, x: pull_softmax(g, x, -1)),
        ((3, 4),),
    ),
    Plant(
        "rows scaled forwards, columns backwards",
        "broadcast-slip",
        rule(scale_rows, lambda g, x, s: g * s, lambda g, x, s: (g * x).sum(-1)),
        rule(scale_rows, lambda g, x, s: g * s.unsqueeze(-1), pull_scale),
        ((4, 4), (4,)),
    ),
    Plant(
        "bias gradient not summed over the rows",
        "missing-reduction",
        rule(torch.add, lambda g, x, b: g.sum_to_size(x.shape), lambda g, x, b: g * 1),
        rule(torch.add, lambda g, x, b: g.sum_to_size(x.shape), lambda g, x, b: g.sum_to_size(b.shape)),
        ((4, 3), (3,)),
    ),
    Plant(
        "mean squared error whose gradient is the sum's",
        "size-factor",
        rule(mse, lambda g, x, t: 2 * g * (x - t), lambda g, x, t: 2 * g * (t - x)),
        rule(mse, lambda g, x, t: 2 * g * (x - t) / x.numel(), lambda g, x, t: 2 * g * (t - x) / x.numel()),
        ((4, 3), (4, 3)),
    ),
    Plant(
        "a loss that takes itself for the last node",
        "cotangent-ignored",
        rule(lambda x: x.square().sum(), lambda g, x: 2 * x),
        rule(lambda x: x.square().sum(), lambda g, x: 2 * x * g),
        ((4, 3),),
    ),
    Plant(
        "a loss of rows that reads one row's cotangent for all",
        "cotangent-assumed-uniform",
        rule(lambda x: x.square().sum(-1), lambda g, x: 2 * x * g.mean()),
        rule(lambda x: x.square().sum(-1), lambda g, x: 2 * x * g.unsqueeze(-1)),
        ((4, 3),),
    ),
    Plant(
        "cotangent clipped to one",
        "cotangent-nonlinear",
        rule(torch.sin, lambda g, x: g.clamp(-1, 1) * x.cos()),
        rule(torch.sin, lambda g, x: g * x.cos()),
        ((4, 3),),
    ),
    Plant(
        "cotangent squared",
        "cotangent-nonlinear",
        rule(torch.sin, lambda g, x: g * g * x.cos()),
        rule(torch.sin, lambda g, x: g * x.cos()),
        ((4, 3),),
    ),
    Plant(
        "no gradient for the weight",
        "missing-gradient",
        rule(linear, lambda g, x, w: g.to(w) @ w, lambda g, x, w: None),
        rule(linear, lambda g, x, w: g.to(w) @ w, lambda g, x, w: g.mT.to(x) @ x),
        ((4, 3), (2, 3)),
    ),
    Plant(
        "squared error without reduction, whose gradient was left at zero",
        "missing-gradient",
        rule(squared_error, lambda g, x, t: torch.zeros_like(x), lambda g, x, t: torch.zeros_like(t)),
        rule(squared_error, lambda g, x, t: 2 * g * (x - t), lambda g, x, t: 2 * g * (t - x)),
        ((4, 3), (4, 3)),
    ),
    Plant(
        "cube without its factor 3",
        "constant-factor",
        rule(lambda x: x**3, lambda g, x: g * x * x),
        rule(lambda x: x**3, lambda g, x: 3 * g * x * x),
        ((4, 3),),
    ),
    Plant(
        "tanh of tanh in the backward pass",
        "wrong-gradient",
        rule(torch.tanh, lambda g, x: g * (1 - x.tanh().tanh().square())),
        rule(torch.tanh, lambda g, x: g * (1 - x.tanh().square())),
        ((4, 3),),
    ),
    Plant(
        "maximum that pays every tie in full",
        "tied-values",
        rule(lambda x: x.amax(-1), lambda g, x: pull_max(g, x, x == x.amax(-1, keepdim=True))),
        rule(lambda x: x.amax(-1), lambda g, x: pull_max(g, x, tied(x))),
        ((4, 5),),
    ),
    Plant(
        "maximum found by closeness",
        "mask-by-closeness",
        rule(lambda x: x.amax(-1), lambda g, x: pull_max(g, x, tied((x * 100).round()))),
        rule(lambda x: x.amax(-1), lambda g, x: pull_max(g, x, tied(x))),
        ((4, 5),),
    ),
    Plant(
        "rows picked twice overwrite each other",
        "duplicate-indices",
        rule(pick, lambda g, x, i: torch.zeros_like(x).index_put((i,), g), lambda g, x, i: None),
        rule(pick, lambda g, x, i: torch.zeros_like(x).index_put((i,), g, True), lambda g, x, i: None),
        ((9, 3), torch.tensor([4, 0, 7])),
    ),
    Plant(
        "embedding that trains its padding row",
        "masked-index",
        rule(embed, lambda g, i, w: None, lambda g, i, w: pull_embed(g, i, w)),
        rule(embed, lambda g, i, w: None, lambda g, i, w: pull_embed(g * (i != 0).unsqueeze(-1), i, w)),
        (torch.tensor([4, 2, 7]), (9, 3)),
        embed,
    ),
    Plant(
        "sum that pays the ignored samples too",
        "masked-index",
        rule(ignoring_sum, lambda g, x, t: pull_picked(g, x, t, 1), lambda g, x, t: None),
        rule(ignoring_sum, lambda g, x, t: pull_picked(g, x, t, t != -100), lambda g, x, t: None),
        ((4, 3), Draw((4,), "classes", 3)),
        ignoring_sum,
    ),
    Plant(
        "mean over the samples that count, when none does",
        "all-masked",
        rule(ignoring, lambda g, x, t: pull_ignoring(g, x, t, 0), lambda g, x, t: None),
        rule(ignoring, lambda g, x, t: pull_ignoring(g, x, t, 1), lambda g, x, t: None),
        ((4, 3), Draw((4,), "classes", 3)),
        ignoring,
    ),
    Plant(
        "gradients filed by address",
        "same-tensor-twice",
        rule(
            times_square, lambda g, x, w: pull_by_name(g, x, w, x), lambda g, x, w: pull_by_name(g, x, w, w)
        ),
        rule(times_square, lambda g, x, w: g * w * w, lambda g, x, w: 2 * g * x * w),
        ((4, 3), (4, 3)),
    ),
    Plant(
        "huber whose linear part was never run",
        "untaken-branch",
        rule(huber, lambda g, x: torch.where(x.abs() < 5, g * x, g * x.abs())),
        rule(huber, lambda g, x: torch.where(x.abs() < 5, g * x, 5 * g * x.sign())),
        ((4, 3),),
    ),
    Plant(
        "sine and cosine, of which one counts",
        "second-output-ignored",
        rule(lambda x: (x.sin(), x.cos()), lambda g, h, x: g * x.cos()),
        rule(lambda x: (x.sin(), x.cos()), lambda g, h, x: g * x.cos() - h * x.sin()),
        ((4, 3),),
    ),
    Plant(
        "root mean square norm without its epsilon",
        "small-error",
        rule(rms, lambda g, x: pull_rms(g, x, 0)),
        rule(rms, lambda g, x: pull_rms(g, x, 1e-5)),
        ((4, 5),),
    ),
    Plant(
        "variance over N",
        "size-factor",
        rule(torch.var, lambda g, x: 2 * g * (x - x.mean()).conj() / x.numel()),
        rule(torch.var, lambda g, x: 2 * g * (x - x.mean()).conj() / (x.numel() - 1)),
        ((4, 3),),
    ),
    Plant(
        "a tiny loss with the wrong gradient",
        "wrong-gradient",
        rule(lambda x: 1e-7 * x.sin(), lambda g, x: 1e-7 * g),
        rule(lambda x: 1e-7 * x.sin(), lambda g, x: 1e-7 * g * x.cos()),
        ((4, 3),),
    ),
    Plant(
        "swish of another slope, forwards and backwards",
        "wrong-forward",
        rule(lambda x: x * torch.sigmoid(1.702 * x), lambda g, x: pull_swish(g, x, 1.702)),
        rule(F.silu, lambda g, x: pull_swish(g, x, 1)),
        ((4, 3),),
        F.silu,
    ),
)
