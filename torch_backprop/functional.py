"""The functions: drop-ins for those of ``torch.nn.functional``, by the same names and signatures.

Without a twin is what is no function of its own (``relu_`` is ``relu`` with ``inplace=True``, ``upsample`` is
``interpolate``), has no gradient (``one_hot``), or is in no layer (``conv_tbc``, ``grouped_mm``).
"""

import torch

from torch_backprop.layers.activation.gated import gelu, mish, silu
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
    logsigmoid,
    selu,
    sigmoid,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)
from torch_backprop.layers.attention.multihead import multi_head_attention_forward
from torch_backprop.layers.attention.scaled_dot_product import scaled_dot_product_attention
from torch_backprop.layers.convolution.conv import conv1d, conv2d, conv3d
from torch_backprop.layers.convolution.fold import fold, unfold
from torch_backprop.layers.convolution.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d
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
from torch_backprop.layers.embedding.bag import embedding_bag
from torch_backprop.layers.embedding.table import embedding
from torch_backprop.layers.linear import bilinear, linear
from torch_backprop.layers.loss.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from torch_backprop.layers.loss.cross_entropy import cross_entropy
from torch_backprop.layers.loss.ctc import ctc_loss
from torch_backprop.layers.loss.divergence import kl_div, poisson_nll_loss
from torch_backprop.layers.loss.embedding import cosine_embedding_loss
from torch_backprop.layers.loss.gaussian import gaussian_nll_loss
from torch_backprop.layers.loss.likelihood import nll_loss
from torch_backprop.layers.loss.margin import hinge_embedding_loss, margin_ranking_loss
from torch_backprop.layers.loss.multi_margin import multi_margin_loss, multilabel_margin_loss
from torch_backprop.layers.loss.regression import l1_loss, mse_loss
from torch_backprop.layers.loss.robust import huber_loss, smooth_l1_loss
from torch_backprop.layers.loss.soft_margin import multilabel_soft_margin_loss, soft_margin_loss
from torch_backprop.layers.loss.triplet import triplet_margin_loss, triplet_margin_with_distance_loss
from torch_backprop.layers.normalization.batch import batch_norm
from torch_backprop.layers.normalization.group import group_norm
from torch_backprop.layers.normalization.instance import instance_norm
from torch_backprop.layers.normalization.layer import layer_norm
from torch_backprop.layers.normalization.response import local_response_norm
from torch_backprop.layers.normalization.rms import rms_norm
from torch_backprop.layers.normalization.vector import normalize
from torch_backprop.layers.padding.border import pad
from torch_backprop.layers.pooling.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool1d_with_indices,
    adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d,
    adaptive_max_pool3d_with_indices,
)
from torch_backprop.layers.pooling.average import avg_pool1d, avg_pool2d, avg_pool3d
from torch_backprop.layers.pooling.fractional import (
    fractional_max_pool2d,
    fractional_max_pool2d_with_indices,
    fractional_max_pool3d,
    fractional_max_pool3d_with_indices,
)
from torch_backprop.layers.pooling.lp import lp_pool1d, lp_pool2d, lp_pool3d
from torch_backprop.layers.pooling.max import (
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool2d_with_indices,
    max_pool3d,
    max_pool3d_with_indices,
)
from torch_backprop.layers.pooling.unpool import max_unpool1d, max_unpool2d, max_unpool3d
from torch_backprop.layers.resample.grid import affine_grid, grid_sample
from torch_backprop.layers.resample.interpolate import interpolate
from torch_backprop.layers.shuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from torch_backprop.layers.softmax import gumbel_softmax, log_softmax, softmax, softmin

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "affine_grid", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "bilinear", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "cdist", "celu", "channel_shuffle", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_embedding_loss",
    "cosine_similarity", "cross_entropy", "ctc_loss", "dropout", "dropout1d", "dropout2d",
    "dropout3d", "elu", "embedding", "embedding_bag", "feature_alpha_dropout", "fold",
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices", "gaussian_nll_loss", "gelu", "glu", "grid_sample",
    "group_norm", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hinge_embedding_loss",
    "huber_loss", "instance_norm", "interpolate", "kl_div", "l1_loss", "layer_norm", "leaky_relu",
    "linear", "local_response_norm", "log_softmax", "logsigmoid",
    "lp_pool1d", "lp_pool2d", "lp_pool3d", "margin_ranking_loss", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d",
    "max_pool3d_with_indices", "max_unpool1d", "max_unpool2d", "max_unpool3d", "mish", "mse_loss",
    "multi_head_attention_forward", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "nll_loss", "normalize", "pad", "pairwise_distance", "pdist",
    "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss", "prelu", "relu", "relu6", "rms_norm",
    "rrelu", "scaled_dot_product_attention", "selu", "sigmoid", "silu", "smooth_l1_loss",
    "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "triplet_margin_loss", "triplet_margin_with_distance_loss", "unfold",
]  # fmt: skip

# torch has it since 2.13
if hasattr(torch.nn.functional, "linear_cross_entropy"):
    from torch_backprop.layers.loss.linear_cross_entropy import linear_cross_entropy

    __all__ += ["linear_cross_entropy"]
