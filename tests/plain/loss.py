"""Losses and distances, as their definitions say them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.spec import Draw

from .twin import Twin

PAIR = ((3, 4), (3, 4))
UNIT = Draw((3, 4), "unit")
CLASSES = Draw((3,), "classes", 4)
SIGNS = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)


def smooth_l1(x: Tensor, t: Tensor) -> Tensor:
    d = (x - t).abs()
    return torch.where(d < 1, d * d / 2, d - 0.5).mean()


def nll(x: Tensor, t: Tensor) -> Tensor:
    return -x.gather(1, t.unsqueeze(1)).mean()


def bce(p: Tensor, t: Tensor) -> Tensor:
    return -(t * p.log() + (1 - t) * (1 - p).log()).mean()


def kl_div(x: Tensor, t: Tensor) -> Tensor:
    return (torch.where(t > 0, t * t.log(), 0) - t * x).mean()


def gaussian_nll(x: Tensor, t: Tensor, v: Tensor) -> Tensor:
    v = v.clamp(min=1e-6)
    return (0.5 * (v.log() + (x - t).square() / v)).mean()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(1) / (x.norm(dim=1).clamp(min=1e-8) * y.norm(dim=1).clamp(min=1e-8))


def cosine_embedding(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    c = (x * y).sum(1) / ((x * x).sum(1) + 1e-12).sqrt() / ((y * y).sum(1) + 1e-12).sqrt()
    return torch.where(t == 1, 1 - c, c.clamp(min=0)).mean()


def hinge_embedding(x: Tensor, t: Tensor) -> Tensor:
    return torch.where(t == 1, x, (1 - x).clamp(min=0)).mean()


def multi_margin(x: Tensor, t: Tensor) -> Tensor:
    margins = (1 - x.gather(1, t.unsqueeze(1)) + x).clamp(min=0)
    return (margins.sum(1) - 1).mean() / x.shape[1]


def multilabel_soft_margin(x: Tensor, t: Tensor) -> Tensor:
    return -(t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x)).mean()


def distance(x: Tensor, y: Tensor) -> Tensor:
    return (x - y + 1e-6).norm(dim=-1)


def triplet_margin(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (1 + distance(a, p) - distance(a, n)).clamp(min=0).mean()


def pdist(x: Tensor) -> Tensor:
    i, j = torch.triu_indices(len(x), len(x), 1)
    return (x[i] - x[j]).norm(dim=1)


def soft_cross_entropy(x: Tensor, t: Tensor) -> Tensor:
    return -(t * x.log_softmax(1)).sum(1).mean()


TWINS = (
    Twin("mse_loss", F.mse_loss, lambda x, t: (x - t).square().mean(), PAIR),
    Twin("l1_loss", F.l1_loss, lambda x, t: (x - t).abs().mean(), PAIR),
    Twin("smooth_l1_loss", F.smooth_l1_loss, smooth_l1, PAIR),
    Twin("huber_loss", F.huber_loss, smooth_l1, PAIR),
    Twin("nll_loss", F.nll_loss, nll, ((3, 4), CLASSES)),
    Twin("cross_entropy", F.cross_entropy, lambda x, t: nll(x.log_softmax(1), t), ((3, 4), CLASSES)),
    Twin("cross_entropy soft", F.cross_entropy, soft_cross_entropy, ((3, 4), Draw((3, 4), "probabilities"))),
    Twin("binary_cross_entropy", F.binary_cross_entropy, bce, (UNIT, UNIT)),
    Twin(
        "binary_cross_entropy_with_logits",
        F.binary_cross_entropy_with_logits,
        lambda x, t: ((1 - t) * x - F.logsigmoid(x)).mean(),
        ((3, 4), UNIT),
    ),
    Twin("kl_div", lambda x, t: F.kl_div(x, t, reduction="mean"), kl_div, ((3, 4), UNIT)),
    Twin("poisson_nll_loss", F.poisson_nll_loss, lambda x, t: (x.exp() - t * x).mean(), ((3, 4), UNIT)),
    Twin("gaussian_nll_loss", F.gaussian_nll_loss, gaussian_nll, ((3, 4), (3, 4), UNIT)),
    Twin("hinge_embedding_loss", F.hinge_embedding_loss, hinge_embedding, ((3,), SIGNS)),
    Twin(
        "margin_ranking_loss",
        F.margin_ranking_loss,
        lambda x, y, t: (-t * (x - y)).clamp(min=0).mean(),
        ((3,), (3,), SIGNS),
    ),
    Twin("cosine_embedding_loss", F.cosine_embedding_loss, cosine_embedding, ((3, 4), (3, 4), SIGNS)),
    Twin("soft_margin_loss", F.soft_margin_loss, lambda x, t: (-t * x).exp().log1p().mean(), ((3,), SIGNS)),
    Twin("multi_margin_loss", F.multi_margin_loss, multi_margin, ((3, 4), CLASSES)),
    Twin(
        "multilabel_soft_margin_loss", F.multilabel_soft_margin_loss, multilabel_soft_margin, ((3, 4), UNIT)
    ),
    Twin("triplet_margin_loss", F.triplet_margin_loss, triplet_margin, ((3, 4), (3, 4), (3, 4))),
    Twin("cosine_similarity", F.cosine_similarity, cosine, PAIR),
    Twin("pairwise_distance", F.pairwise_distance, distance, PAIR),
    Twin("pdist", F.pdist, pdist, ((4, 3),)),
)
