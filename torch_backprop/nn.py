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
from torch_backprop.layers.distance import cosine, pairwise
from torch_backprop.layers.distance.cosine import CosineSimilarity
from torch_backprop.layers.distance.pairwise import PairwiseDistance
from torch_backprop.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from torch_backprop.layers.linear import Bilinear, Linear
from torch_backprop.layers.loss import (
    adaptive,
    binary,
    cross_entropy,
    ctc,
    divergence,
    embedding,
    gaussian,
    likelihood,
    linear_cross_entropy,
    margin,
    multi_margin,
    regression,
    robust,
    soft_margin,
    triplet,
)
from torch_backprop.layers.loss.adaptive import AdaptiveLogSoftmaxWithLoss
from torch_backprop.layers.loss.binary import BCELoss, BCEWithLogitsLoss
from torch_backprop.layers.loss.cross_entropy import CrossEntropyLoss
from torch_backprop.layers.loss.ctc import CTCLoss
from torch_backprop.layers.loss.divergence import KLDivLoss, PoissonNLLLoss
from torch_backprop.layers.loss.embedding import CosineEmbeddingLoss
from torch_backprop.layers.loss.gaussian import GaussianNLLLoss
from torch_backprop.layers.loss.likelihood import NLLLoss
from torch_backprop.layers.loss.linear_cross_entropy import LinearCrossEntropyLoss
from torch_backprop.layers.loss.margin import HingeEmbeddingLoss, MarginRankingLoss
from torch_backprop.layers.loss.multi_margin import MultiLabelMarginLoss, MultiMarginLoss
from torch_backprop.layers.loss.regression import L1Loss, MSELoss
from torch_backprop.layers.loss.robust import HuberLoss, SmoothL1Loss
from torch_backprop.layers.loss.soft_margin import MultiLabelSoftMarginLoss, SoftMarginLoss
from torch_backprop.layers.loss.triplet import TripletMarginLoss, TripletMarginWithDistanceLoss
from torch_backprop.layers.shape import Flatten, Identity, Unflatten
from torch_backprop.layers.softmax import LogSoftmax, Softmax, Softmax2d, Softmin

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "AdaptiveLogSoftmaxWithLoss",
    "AlphaDropout",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Bilinear",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "Flatten",
    "GaussianNLLLoss",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LinearCrossEntropyLoss",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MarginRankingLoss",
    "Mish",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PReLU",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
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
    *regression.SPECS,
    *likelihood.SPECS,
    *cross_entropy.SPECS,
    *binary.SPECS,
    *robust.SPECS,
    *divergence.SPECS,
    *gaussian.SPECS,
    *margin.SPECS,
    *soft_margin.SPECS,
    *multi_margin.SPECS,
    *pairwise.SPECS,
    *cosine.SPECS,
    *embedding.SPECS,
    *triplet.SPECS,
    *ctc.SPECS,
    *linear_cross_entropy.SPECS,
    *adaptive.SPECS,
)
