"""Pullbacks of reading and writing through a view, from the places of its elements in the memory it views.

With P the matrix that picks the view's elements out of the viewed tensor x: reading v = P x pulls back as
P^T g; writing x' = x - P^T P x + P^T v pulls back to x as g - P^T P g, and to v as P g.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Pull = Callable[[Tensor], Tensor]


def reading(view: Tensor, root: Tensor) -> Pull:
    """The pullback of reading ``view`` out of ``root``; elements read several times are summed."""
    (shape, strides), part = _geometry(view, root)
    count = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))

    def pull(g: Tensor) -> Tensor:
        places = torch.arange(count, device=g.device).as_strided(*part)
        memory = g.new_zeros(count).index_add(0, places.flatten(), g.flatten())
        return memory.as_strided(shape, strides)

    return pull


def writing(view: Tensor, root: Tensor) -> tuple[Pull, Pull]:
    """The pullbacks of writing into ``root`` where it is viewed: to what it was, and to what is written."""
    whole, part = _geometry(view, root)

    def to_root(g: Tensor) -> Tensor:
        grad_root = g.new_empty_strided(*whole).copy_(g)
        grad_root.as_strided(*part).zero_()
        return grad_root

    def to_view(g: Tensor) -> Tensor:
        return g.new_empty_strided(*whole).copy_(g).as_strided(*part).clone()

    return to_root, to_view


def _geometry(view: Tensor, root: Tensor) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Shape and strides of the whole; shape, strides and offset of the part."""
    overlaps = any(step == 0 and size > 1 for step, size in zip(root.stride(), root.shape, strict=True))
    if overlaps or view.dtype != root.dtype or not root.numel():
        raise NotImplementedError(
            "A tensor is read through as_strided, or was written into while a view of it is in use; and it is"
            " itself expanded, or the view is of another dtype: clone() it first."
        )
    offset = view.storage_offset() - root.storage_offset()
    return (tuple(root.shape), root.stride()), (tuple(view.shape), view.stride(), offset)
