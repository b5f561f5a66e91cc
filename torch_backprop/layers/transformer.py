r"""The Transformer. Vaswani et al. (2017), arXiv:1706.03762, eq. 2; Xiong et al. (2020), arXiv:2002.04745.

With attention A, the feed-forward network F(x) = W_2 f(W_1 x + b_1) + b_2, and normalization N, each sublayer
adds to its input, and is normalized after (the original) or before:

    encoder layer, after     z = N_1(x + A(x, x))     y = N_2(z + F(z))
    encoder layer, before    z = x + A(N_1 x, N_1 x)  y = z + F(N_2 z)

A decoder layer has a third sublayer between those, attention from its queries to the encoder's output. The
derivation is that of its sublayers, ``scaled_dot_product``, ``linear`` and ``normalization.layer``: a sum
hands its gradient on to both terms. torch's own ``forward`` composes whatever sublayers it finds; ours finds
ours, and only has to bring the function of the activation, which is no sublayer.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from torch_backprop.layers.activation.gated import gelu, mish, silu
from torch_backprop.layers.activation.piecewise import relu
from torch_backprop.layers.activation.smooth import elu, selu, tanh
from torch_backprop.layers.attention.multihead import QUADRATIC, MultiheadAttention
from torch_backprop.layers.dropout import Dropout
from torch_backprop.layers.linear import Linear
from torch_backprop.layers.normalization.layer import LayerNorm
from torch_backprop.rule import by_autograd, tracked
from torch_backprop.spec import LayerSpec, case


class TransformerEncoderLayer(torch.nn.TransformerEncoderLayer):
    """Drop-in for :class:`torch.nn.TransformerEncoderLayer`, with our layers inside."""

    @functools.wraps(torch.nn.TransformerEncoderLayer.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _make_ours(self)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Maps ``(S, N, E)``, ``(S, E)`` or, with ``batch_first``, ``(N, S, E)`` to the same shape."""
        tensors = (src, *self.parameters())
        if src.is_nested or by_autograd(*tensors) or not (self.training or any(map(tracked, tensors))):
            # torch has a kernel of its own where there is nothing to derive, and sees what autograd wants
            return super().forward(src, src_mask, src_key_padding_mask, is_causal)
        other = None if src_mask is None else src_mask.dtype
        padding = F._canonical_mask(
            src_key_padding_mask, "src_key_padding_mask", other, "src_mask", src.dtype
        )
        mask = F._canonical_mask(src_mask, "src_mask", None, "", src.dtype, check_other=False)
        if self.norm_first:
            z = src + self._sa_block(self.norm1(src), mask, padding, is_causal)
            return z + self._ff_block(self.norm2(z))
        z = self.norm1(src + self._sa_block(src, mask, padding, is_causal))
        return self.norm2(z + self._ff_block(z))

    def _ff_block(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(_activated(self.activation, self.linear1(x)))))


class TransformerDecoderLayer(torch.nn.TransformerDecoderLayer):
    """Drop-in for :class:`torch.nn.TransformerDecoderLayer`, with our layers inside."""

    @functools.wraps(torch.nn.TransformerDecoderLayer.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _make_ours(self)

    def _ff_block(self, x: Tensor) -> Tensor:
        return self.dropout3(self.linear2(self.dropout(_activated(self.activation, self.linear1(x)))))


class TransformerEncoder(torch.nn.TransformerEncoder):
    """Drop-in for :class:`torch.nn.TransformerEncoder`; its copies of the layer given are made ours."""

    @functools.wraps(torch.nn.TransformerEncoder.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _make_ours(self.layers)


class TransformerDecoder(torch.nn.TransformerDecoder):
    """Drop-in for :class:`torch.nn.TransformerDecoder`; its copies of the layer given are made ours."""

    @functools.wraps(torch.nn.TransformerDecoder.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _make_ours(self.layers)


class Transformer(torch.nn.Transformer):
    """Drop-in for :class:`torch.nn.Transformer`, with our layers in all but a custom encoder or decoder."""

    @functools.wraps(torch.nn.Transformer.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = inspect.signature(torch.nn.Transformer).bind(*args, **kwargs).arguments
        for name in ("encoder", "decoder"):
            if given.get(f"custom_{name}") is None:
                _make_ours(self.get_submodule(name))


OURS: dict[type[Module], type[Module]] = {
    torch.nn.Linear: Linear,
    torch.nn.Dropout: Dropout,
    torch.nn.LayerNorm: LayerNorm,
    torch.nn.MultiheadAttention: MultiheadAttention,
    torch.nn.TransformerEncoderLayer: TransformerEncoderLayer,
    torch.nn.TransformerDecoderLayer: TransformerDecoderLayer,
    torch.nn.TransformerEncoder: TransformerEncoder,
    torch.nn.TransformerDecoder: TransformerDecoder,
}
"""What torch's constructors make, and ours."""


def _make_ours(model: Module) -> None:
    """Changes the class of every sublayer; its parameters, and the numbers drawn for them, are torch's."""
    for module in model.modules():
        module.__class__ = OURS.get(type(module), type(module))


FUNCTIONS: dict[Any, Any] = {
    F.relu: relu,
    torch.relu: relu,
    F.gelu: gelu,
    F.silu: silu,
    F.mish: mish,
    F.elu: elu,
    F.selu: selu,
    torch.tanh: tanh,
}
"""By torch's functions that a layer may be given as its activation."""


def _activated(activation: Any, x: Tensor) -> Tensor:
    """The activation of x, by our function where it is torch's."""
    return FUNCTIONS.get(activation, activation)(x)


def masked(layer: Any, src: Tensor, padding: Tensor, mask: Tensor) -> Tensor:
    """A call with both masks."""
    return layer(src, mask, padding)


def causal(layer: Any, tgt: Tensor, memory: Tensor) -> Tensor:
    """A call of a decoder that sees no future."""
    future = torch.ones(tgt.shape[0], tgt.shape[0], dtype=torch.bool, device=tgt.device).triu(1)
    return layer(tgt, memory, tgt_mask=future)


SMALL: dict[str, Any] = {"d_model": 4, "nhead": 2, "dim_feedforward": 3}
STILL: dict[str, Any] = SMALL | {"dropout": 0.0}
MASKED: dict[str, Any] = STILL | {
    "batch_first": True,
    "norm_first": True,
    "activation": "gelu",
    "bias": False,
}
# four features standardized many times over lose more digits than two dtypes differ by
ONE_EACH: dict[str, Any] = STILL | {"d_model": 6, "num_encoder_layers": 1, "num_decoder_layers": 1}
ENCODER_LAYER = functools.partial(torch.nn.TransformerEncoderLayer, batch_first=True, **STILL)
DECODER_LAYER = functools.partial(torch.nn.TransformerDecoderLayer, **STILL)

BIG: dict[str, Any] = {"d_model": 256, "nhead": 8, "dim_feedforward": 512, "dropout": 0.0}
BIG_RANDOM: dict[str, Any] = BIG | {"dropout": 0.1}
BIG_ENCODER_LAYER = functools.partial(torch.nn.TransformerEncoderLayer, **BIG)
BIG_DECODER_LAYER = functools.partial(torch.nn.TransformerDecoderLayer, **BIG)

SPECS = (
    LayerSpec(
        TransformerEncoderLayer,
        torch.nn.TransformerEncoderLayer,
        (
            case((3, 2, 4), **SMALL),
            case((2, 3, 4), (2, 3), (3, 3), call=masked, **MASKED),
            case((5, 4), **STILL),
        ),
        QUADRATIC,
        large=case((128, 32, 256), **BIG_RANDOM),
    ),
    LayerSpec(
        TransformerDecoderLayer,
        torch.nn.TransformerDecoderLayer,
        (case((3, 1, 4), (4, 1, 4), call=causal, **SMALL), case((5, 4), (4, 4), **STILL)),
        QUADRATIC,
        large=case((128, 32, 256), (128, 32, 256), **BIG_RANDOM),
    ),
    LayerSpec(
        TransformerEncoder,
        torch.nn.TransformerEncoder,
        (case((1, 3, 4), encoder_layer=ENCODER_LAYER, num_layers=1, train=False),),
        QUADRATIC,
        large=case((128, 32, 256), encoder_layer=BIG_ENCODER_LAYER, num_layers=1),
    ),
    LayerSpec(
        TransformerDecoder,
        torch.nn.TransformerDecoder,
        (case((3, 4), (4, 4), decoder_layer=DECODER_LAYER, num_layers=1),),
        QUADRATIC,
        large=case((128, 32, 256), (128, 32, 256), decoder_layer=BIG_DECODER_LAYER, num_layers=1),
    ),
    LayerSpec(
        Transformer,
        torch.nn.Transformer,
        (case((1, 3, 6), (1, 4, 6), batch_first=True, **ONE_EACH),),
        QUADRATIC,
        large=case((128, 32, 256), (128, 32, 256), num_encoder_layers=1, num_decoder_layers=1, **BIG),
    ),
)
