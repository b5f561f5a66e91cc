"""The layers: drop-ins for those of ``torch.nn``, by the same names, and ``SPECS``, the only list of them."""

import typing

import torch

from torch_backprop.layers import (
    dropout,
    feedforward,
    linear,
    lora,
    reversible,
    rotary,
    shape,
    shuffle,
    softmax,
    transformer,
)
from torch_backprop.layers.activation import gated, parametric, piecewise, smooth
from torch_backprop.layers.activation.gated import GELU, Mish, SiLU
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
    SELU,
    LogSigmoid,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    Tanhshrink,
)
from torch_backprop.layers.attention import multihead
from torch_backprop.layers.attention.multihead import MultiheadAttention
from torch_backprop.layers.convolution import conv, fold, transposed
from torch_backprop.layers.convolution.conv import Conv1d, Conv2d, Conv3d, LazyConv1d, LazyConv2d, LazyConv3d
from torch_backprop.layers.convolution.fold import Fold, Unfold
from torch_backprop.layers.convolution.transposed import (
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    LazyConvTranspose1d,
    LazyConvTranspose2d,
    LazyConvTranspose3d,
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
from torch_backprop.layers.embedding import bag, table
from torch_backprop.layers.embedding.bag import EmbeddingBag
from torch_backprop.layers.embedding.table import Embedding
from torch_backprop.layers.feedforward import GeGLU, SwiGLU
from torch_backprop.layers.linear import Bilinear, LazyLinear, Linear
from torch_backprop.layers.lora import LoRALinear
from torch_backprop.layers.loss import adaptive as adaptive_softmax
from torch_backprop.layers.loss import (
    binary,
    cross_entropy,
    ctc,
    divergence,
    embedding,
    gaussian,
    likelihood,
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
from torch_backprop.layers.loss.likelihood import NLLLoss, NLLLoss2d
from torch_backprop.layers.loss.margin import HingeEmbeddingLoss, MarginRankingLoss
from torch_backprop.layers.loss.multi_margin import MultiLabelMarginLoss, MultiMarginLoss
from torch_backprop.layers.loss.regression import L1Loss, MSELoss
from torch_backprop.layers.loss.robust import HuberLoss, SmoothL1Loss
from torch_backprop.layers.loss.soft_margin import MultiLabelSoftMarginLoss, SoftMarginLoss
from torch_backprop.layers.loss.triplet import TripletMarginLoss, TripletMarginWithDistanceLoss
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
from torch_backprop.layers.padding import border, constant
from torch_backprop.layers.padding.border import (
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
)
from torch_backprop.layers.padding.constant import (
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
)
from torch_backprop.layers.pooling import adaptive, average, fractional, lp, unpool
from torch_backprop.layers.pooling import max as max_pooling
from torch_backprop.layers.pooling.adaptive import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
)
from torch_backprop.layers.pooling.average import AvgPool1d, AvgPool2d, AvgPool3d
from torch_backprop.layers.pooling.fractional import FractionalMaxPool2d, FractionalMaxPool3d
from torch_backprop.layers.pooling.lp import LPPool1d, LPPool2d, LPPool3d
from torch_backprop.layers.pooling.max import MaxPool1d, MaxPool2d, MaxPool3d
from torch_backprop.layers.pooling.unpool import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d
from torch_backprop.layers.recurrent import cells, elman, gru, lstm
from torch_backprop.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from torch_backprop.layers.recurrent.elman import RNN
from torch_backprop.layers.recurrent.gru import GRU
from torch_backprop.layers.recurrent.lstm import LSTM
from torch_backprop.layers.resample import interpolate
from torch_backprop.layers.resample.interpolate import Upsample, UpsamplingBilinear2d, UpsamplingNearest2d
from torch_backprop.layers.reversible import ReversibleBlock
from torch_backprop.layers.rotary import RotaryEmbedding
from torch_backprop.layers.shape import Flatten, Identity, Unflatten
from torch_backprop.layers.shuffle import ChannelShuffle, PixelShuffle, PixelUnshuffle
from torch_backprop.layers.softmax import LogSoftmax, Softmax, Softmax2d, Softmin
from torch_backprop.layers.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "GRU", "LSTM", "RNN", "SELU", "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveLogSoftmaxWithLoss", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AlphaDropout", "AvgPool1d", "AvgPool2d", "AvgPool3d",
    "BCELoss", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Bilinear",
    "CTCLoss", "ChannelShuffle", "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d",
    "ConstantPad2d", "ConstantPad3d", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
    "ConvTranspose2d", "ConvTranspose3d", "CosineEmbeddingLoss", "CosineSimilarity",
    "CrossEntropyLoss", "CrossMapLRN2d", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d",
    "Embedding", "EmbeddingBag", "FeatureAlphaDropout", "Flatten", "Fold", "FractionalMaxPool2d",
    "FractionalMaxPool3d", "GRUCell", "GaussianNLLLoss", "GeGLU", "GroupNorm", "Hardshrink",
    "Hardsigmoid", "Hardswish", "Hardtanh", "HingeEmbeddingLoss", "HuberLoss", "Identity",
    "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "KLDivLoss", "L1Loss", "LPPool1d",
    "LPPool2d", "LPPool3d", "LSTMCell", "LayerNorm", "LazyBatchNorm1d", "LazyBatchNorm2d",
    "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d", "LazyConvTranspose1d",
    "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
    "LazyInstanceNorm3d", "LazyLinear", "LeakyReLU", "Linear",
    "LoRALinear", "LocalResponseNorm", "LogSigmoid", "LogSoftmax", "MSELoss", "MarginRankingLoss",
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d", "Mish",
    "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss", "MultiheadAttention",
    "NLLLoss", "NLLLoss2d", "PReLU", "PairwiseDistance", "PixelShuffle", "PixelUnshuffle", "PoissonNLLLoss",
    "RMSNorm", "RNNCell", "RReLU", "ReLU", "ReLU6", "ReflectionPad1d", "ReflectionPad2d",
    "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d",
    "ReversibleBlock", "RotaryEmbedding", "SiLU", "Sigmoid", "SmoothL1Loss", "SoftMarginLoss",
    "Softmax", "Softmax2d", "Softmin", "Softplus", "Softshrink", "Softsign", "SwiGLU",
    "SyncBatchNorm", "Tanh", "Tanhshrink", "Threshold", "Transformer", "TransformerDecoder",
    "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer", "TripletMarginLoss",
    "TripletMarginWithDistanceLoss", "Unflatten", "Unfold", "Upsample", "UpsamplingBilinear2d",
    "UpsamplingNearest2d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip

SPECS = (
    *linear.SPECS,
    *conv.SPECS,
    *transposed.SPECS,
    *fold.SPECS,
    *shape.SPECS,
    *piecewise.SPECS,
    *smooth.SPECS,
    *gated.SPECS,
    *parametric.SPECS,
    *softmax.SPECS,
    *dropout.SPECS,
    *interpolate.SPECS,
    *regression.SPECS,
    *likelihood.SPECS,
    *cross_entropy.SPECS,
    *binary.SPECS,
    *max_pooling.SPECS,
    *average.SPECS,
    *constant.SPECS,
    *border.SPECS,
    *adaptive.SPECS,
    *adaptive_softmax.SPECS,
    *lp.SPECS,
    *unpool.SPECS,
    *shuffle.SPECS,
    *fractional.SPECS,
    *layer.SPECS,
    *rms.SPECS,
    *batch.SPECS,
    *group.SPECS,
    *instance.SPECS,
    *sync.SPECS,
    *lazy.SPECS,
    *response.SPECS,
    *table.SPECS,
    *bag.SPECS,
    *elman.SPECS,
    *gru.SPECS,
    *lstm.SPECS,
    *cells.SPECS,
    *multihead.SPECS,
    *transformer.SPECS,
    *feedforward.SPECS,
    *rotary.SPECS,
    *lora.SPECS,
    *reversible.SPECS,
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
)

# torch has it since 2.13
if hasattr(torch.nn, "LinearCrossEntropyLoss"):
    from torch_backprop.layers.loss import linear_cross_entropy
    from torch_backprop.layers.loss.linear_cross_entropy import LinearCrossEntropyLoss

    __all__ += ["LinearCrossEntropyLoss"]
    SPECS += linear_cross_entropy.SPECS


def _refuse_scripts() -> None:
    """Answers torch.jit.script, which would end in words about our annotations, with a sentence."""

    def refuse(layer: torch.nn.Module) -> typing.NoReturn:
        raise RuntimeError(
            f"torch.jit.script cannot compile the hand-written backward pass of {type(layer).__name__}: "
            "script the model before it is converted, or use torch.export, torch.compile or torch.jit.trace"
        )

    for spec in SPECS:
        layer: typing.Any = spec.layer
        if "forward" in vars(layer):
            # what torch.jit.script asks of a module first
            layer.__prepare_scriptable__ = refuse


_refuse_scripts()
