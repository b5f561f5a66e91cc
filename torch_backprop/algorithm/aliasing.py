"""Pullbacks of reading and writing through a view, from the places of its elements in the memory it views.

With P the matrix that picks the view's elements out of the viewed tensor x: reading v = P x pulls back as
P^T g; writing x' = x - P^T P x + P^T v pulls back to x as g - P^T P g, and to v as P g.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Pull = Callable[[Tensor], Tensor]


def reading(view: Tensor, root: Tensor) -> Pull:
    """The pullback of reading ``view`` out of ``root``."""
    whole, part = _geometry(view, root)

    def pull(g: Tensor) -> Tensor:
        grad_root = g.new_empty_strided(*whole).zero_()
        grad_root.as_strided(*part).copy_(g)
        return grad_root

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
    overlaps = any(step == 0 and size > 1 for step, size in zip(view.stride(), view.shape, strict=True))
    if overlaps or view.dtype != root.dtype:
        raise NotImplementedError(
            "A tensor was written into while an expanded view of it, or one of another dtype, is in use:"
            " write out of place, or into a clone."
        )
    offset = view.storage_offset() - root.storage_offset()
    return (tuple(root.shape), root.stride()), (tuple(view.shape), view.stride(), offset)
