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
from torch_backprop.layers.loss.likelihood import nll_loss
from torch_backprop.layers.loss.regression import l1_loss, mse_loss
from torch_backprop.layers.normalization.batch import batch_norm
from torch_backprop.layers.normalization.group import group_norm
from torch_backprop.layers.normalization.instance import instance_norm
from torch_backprop.layers.normalization.layer import layer_norm
from torch_backprop.layers.normalization.response import local_response_norm
from torch_backprop.layers.normalization.rms import rms_norm
from torch_backprop.layers.normalization.vector import normalize
from torch_backprop.layers.softmax import log_softmax, softmax, softmin

__all__ = [
    "alpha_dropout",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "feature_alpha_dropout",
    "gelu",
    "glu",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]
