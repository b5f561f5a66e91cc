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
from torch_backprop.layers.attention.multihead import multi_head_attention_forward
from torch_backprop.layers.attention.scaled_dot_product import scaled_dot_product_attention
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
from torch_backprop.layers.normalization.layer import layer_norm
from torch_backprop.layers.softmax import log_softmax, softmax, softmin

__all__ = [
    "alpha_dropout",
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
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "multi_head_attention_forward",
    "nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "scaled_dot_product_attention",
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
