"""Boolean masks held as bits: an eighth of a byte for an element.

They serve the derivations of ``dropout`` and ``scaled_dot_product``.
"""

from __future__ import annotations

import torch
from torch import Tensor

# as a little-endian 64-bit number, eight booleans times this number have their bits side by side at the top
_GATHER = 0x0102040810204080


def pack(mask: Tensor) -> Tensor:
    """Packs a boolean mask ``(*)`` of n elements into ``(ceil(n / 8))`` bytes.

    >>> pack(torch.tensor([True, False, False, False, False, False, False, True, True]))
    tensor([129,   1], dtype=torch.uint8)
    """
    flat = mask.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)) if flat.numel() % 8 else flat
    return ((padded.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def unpack(bits: Tensor, shape: torch.Size) -> Tensor:
    """The boolean mask of ``shape`` that :func:`pack` packed.

    >>> unpack(pack(torch.tensor([[True], [False]])), torch.Size((2, 1)))
    tensor([[ True],
            [False]])
    """
    table = torch.arange(256, device=bits.device).unsqueeze(1) >> torch.arange(8, device=bits.device) & 1
    # a row of the table is the eight booleans of a byte, read as one 64-bit number
    eight = table.bool().view(torch.int64).squeeze(1)
    return eight[bits.int()].view(torch.bool)[: shape.numel()].view(shape)
