"""The functions: drop-ins for those of ``torch.nn.functional``, by the same names and signatures."""

from torch_backprop.layers.activation.parametric import glu, prelu, rrelu
from torch_backprop.layers.activation.piecewise import (
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    relu,
    relu6,
    softshrink,
    threshold,
)
from torch_backprop.layers.activation.smooth import (
    celu,
    elu,
    gelu,
    logsigmoid,
    mish,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)
from torch_backprop.layers.distance.cosine import cosine_similarity
from torch_backprop.layers.distance.pairs import cdist, pdist
from torch_backprop.layers.distance.pairwise import pairwise_distance
from torch_backprop.layers.dropout import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)
from torch_backprop.layers.linear import bilinear, linear
from torch_backprop.layers.loss.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from torch_backprop.layers.loss.cross_entropy import cross_entropy
from torch_backprop.layers.loss.ctc import ctc_loss
from torch_backprop.layers.loss.divergence import kl_div, poisson_nll_loss
from torch_backprop.layers.loss.embedding import cosine_embedding_loss
from torch_backprop.layers.loss.gaussian import gaussian_nll_loss
from torch_backprop.layers.loss.likelihood import nll_loss
from torch_backprop.layers.loss.linear_cross_entropy import linear_cross_entropy
from torch_backprop.layers.loss.margin import hinge_embedding_loss, margin_ranking_loss
from torch_backprop.layers.loss.multi_margin import multi_margin_loss, multilabel_margin_loss
from torch_backprop.layers.loss.regression import l1_loss, mse_loss
from torch_backprop.layers.loss.robust import huber_loss, smooth_l1_loss
from torch_backprop.layers.loss.soft_margin import multilabel_soft_margin_loss, soft_margin_loss
from torch_backprop.layers.loss.triplet import triplet_margin_loss, triplet_margin_with_distance_loss
from torch_backprop.layers.softmax import log_softmax, softmax, softmin

__all__ = [
    "alpha_dropout",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cdist",
    "celu",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "feature_alpha_dropout",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "leaky_relu",
    "linear",
    "linear_cross_entropy",
    "log_softmax",
    "logsigmoid",
    "margin_ranking_loss",
    "mish",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "pairwise_distance",
    "pdist",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]
