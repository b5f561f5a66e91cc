"""Attention: torch's fused kernels have no second derivative and no forward mode; the formula has both."""

from __future__ import annotations

from typing import Any

import torch
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel

from .normalization import LayerNorm
from .table import Corrections


def with_attention_by_formula(kind: Any) -> type[torch.nn.Module]:
    """The module ``kind``, in which attention is never computed by a fused kernel; nor is its LayerNorm."""

    class Corrected(kind):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for module in self.modules():
                if type(module) is torch.nn.LayerNorm:
                    module.__class__ = LayerNorm

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            with sdpa_kernel(SDPBackend.MATH):
                enabled = mha.get_fastpath_enabled()
                mha.set_fastpath_enabled(False)
                try:
                    return super().forward(*args, **kwargs)
                finally:
                    mha.set_fastpath_enabled(enabled)

    return Corrected


ATTENTIVE = (
    torch.nn.MultiheadAttention,
    torch.nn.Transformer,
    torch.nn.TransformerDecoder,
    torch.nn.TransformerDecoderLayer,
    torch.nn.TransformerEncoder,
    torch.nn.TransformerEncoderLayer,
)

FIRST: Corrections = {kind: with_attention_by_formula(kind) for kind in ATTENTIVE}
SECOND: Corrections = {}
