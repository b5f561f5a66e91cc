"""The layers: drop-ins for those of ``torch.nn``, by the same names, and ``SPECS``, the only list of them."""

from torch_backprop.layers import (
    dropout,
    feedforward,
    linear,
    lora,
    reversible,
    rotary,
    shape,
    softmax,
    transformer,
)
from torch_backprop.layers.activation import parametric, piecewise, smooth
from torch_backprop.layers.activation.parametric import GLU, PReLU, RReLU
from torch_backprop.layers.activation.piecewise import (
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    ReLU,
    ReLU6,
    Softshrink,
    Threshold,
)
from torch_backprop.layers.activation.smooth import (
    CELU,
    ELU,
    GELU,
    SELU,
    LogSigmoid,
    Mish,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
    Tanhshrink,
)
from torch_backprop.layers.attention import multihead
from torch_backprop.layers.attention.multihead import MultiheadAttention
from torch_backprop.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from torch_backprop.layers.feedforward import GeGLU, SwiGLU
from torch_backprop.layers.linear import Bilinear, Linear
from torch_backprop.layers.lora import LoRALinear
from torch_backprop.layers.loss import binary, cross_entropy, likelihood, regression
from torch_backprop.layers.loss.binary import BCELoss, BCEWithLogitsLoss
from torch_backprop.layers.loss.cross_entropy import CrossEntropyLoss
from torch_backprop.layers.loss.likelihood import NLLLoss
from torch_backprop.layers.loss.regression import L1Loss, MSELoss
from torch_backprop.layers.normalization import layer
from torch_backprop.layers.normalization.layer import LayerNorm
from torch_backprop.layers.reversible import ReversibleBlock
from torch_backprop.layers.rotary import RotaryEmbedding
from torch_backprop.layers.shape import Flatten, Identity, Unflatten
from torch_backprop.layers.softmax import LogSoftmax, Softmax, Softmax2d, Softmin
from torch_backprop.layers.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "AlphaDropout",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Bilinear",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "Flatten",
    "GeGLU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LoRALinear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "Mish",
    "MultiheadAttention",
    "NLLLoss",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReversibleBlock",
    "RotaryEmbedding",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "Unflatten",
]

SPECS = (
    *linear.SPECS,
    *shape.SPECS,
    *piecewise.SPECS,
    *smooth.SPECS,
    *parametric.SPECS,
    *softmax.SPECS,
    *dropout.SPECS,
    *multihead.SPECS,
    *transformer.SPECS,
    *feedforward.SPECS,
    *rotary.SPECS,
    *lora.SPECS,
    *reversible.SPECS,
    *layer.SPECS,
    *regression.SPECS,
    *likelihood.SPECS,
    *cross_entropy.SPECS,
    *binary.SPECS,
)
