"""The layers: drop-ins for those of ``torch.nn``, by the same names, and ``SPECS``, the only list of them."""

from torch_backprop.layers import dropout, linear, shape, softmax
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
from torch_backprop.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from torch_backprop.layers.linear import Bilinear, Linear
from torch_backprop.layers.loss import binary, cross_entropy, likelihood, regression
from torch_backprop.layers.loss.binary import BCELoss, BCEWithLogitsLoss
from torch_backprop.layers.loss.cross_entropy import CrossEntropyLoss
from torch_backprop.layers.loss.likelihood import NLLLoss
from torch_backprop.layers.loss.regression import L1Loss, MSELoss
from torch_backprop.layers.normalization import batch, group, instance, layer, lazy, response, rms, sync
from torch_backprop.layers.normalization.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from torch_backprop.layers.normalization.group import GroupNorm
from torch_backprop.layers.normalization.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from torch_backprop.layers.normalization.layer import LayerNorm
from torch_backprop.layers.normalization.lazy import (
    LazyBatchNorm1d,
    LazyBatchNorm2d,
    LazyBatchNorm3d,
    LazyInstanceNorm1d,
    LazyInstanceNorm2d,
    LazyInstanceNorm3d,
)
from torch_backprop.layers.normalization.response import CrossMapLRN2d, LocalResponseNorm
from torch_backprop.layers.normalization.rms import RMSNorm
from torch_backprop.layers.normalization.sync import SyncBatchNorm
from torch_backprop.layers.shape import Flatten, Identity, Unflatten
from torch_backprop.layers.softmax import LogSoftmax, Softmax, Softmax2d, Softmin

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "AlphaDropout",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "CrossEntropyLoss",
    "CrossMapLRN2d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "Flatten",
    "GroupNorm",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "L1Loss",
    "LayerNorm",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "Mish",
    "NLLLoss",
    "PReLU",
    "RMSNorm",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SyncBatchNorm",
    "Tanh",
    "Tanhshrink",
    "Threshold",
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
    *layer.SPECS,
    *rms.SPECS,
    *batch.SPECS,
    *group.SPECS,
    *instance.SPECS,
    *sync.SPECS,
    *lazy.SPECS,
    *response.SPECS,
    *regression.SPECS,
    *likelihood.SPECS,
    *cross_entropy.SPECS,
    *binary.SPECS,
)
