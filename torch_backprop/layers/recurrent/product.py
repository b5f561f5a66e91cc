"""Matrix products over all steps, by oneDNN where it is to be had, for the derivation in ``direction``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import TILE
from torch_backprop.rule import first_order


def product(rows: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows w^T, plus a bias, of ``(N, I)`` and ``(O, I)``.

    torch's LSTM is oneDNN's, whose products take half the time of MKL's on some processors.
    """
    if not _by_onednn(rows, w):
        return rows @ w.mT if bias is None else F.linear(rows, w, bias)
    offset = None if bias is None else bias.to_mkldnn()
    return F.linear(rows.contiguous().to_mkldnn(), w.contiguous().to_mkldnn(), offset).to_dense()


def _by_onednn(rows: Tensor, w: Tensor) -> bool:
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or w.dtype != torch.float32:
        return False
    # below, its own layout costs more to make than it saves
    large = min(rows.numel(), w.numel()) > TILE // 4
    # the last of these cannot be compiled, where the one before says no
    return large and first_order(rows, w) and torch._C._get_mkldnn_enabled()
