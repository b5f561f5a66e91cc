"""Picking by index and writing by index: each is the other's pullback."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _indexed(y: Tensor, x: Tensor, indices: list[Tensor | None]) -> Any:
    shape = x.shape
    return (lambda g: aten.index_put.default(g.new_zeros(shape), indices, g, True),)


def _put(y: Tensor, x: Tensor, indices: list[Any], values: Tensor, accumulate: bool = False) -> Any:
    def to_x(g: Tensor) -> Tensor:
        return g if accumulate else aten.index_put.default(g, indices, g.new_zeros(()))

    return to_x, *(None for _ in indices), lambda g: aten.index.Tensor(g, indices)


def _gathered(y: Tensor, x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Any:
    shape = x.shape
    return (lambda g: g.new_zeros(shape).scatter_add(dim, index, g),)


def _row_selected(y: Tensor, x: Tensor, dim: int, index: Tensor) -> Any:
    shape = x.shape
    return (lambda g: g.new_zeros(shape).index_add(dim, index, g),)


def _scattered(y: Tensor, x: Tensor, dim: int, index: Tensor, source: Any) -> Any:
    shape = source.shape if isinstance(source, Tensor) else None
    return (
        lambda g: g.scatter(dim, index, 0),
        None,
        None,
        lambda g: _within(g.gather(dim, index), shape),
    )


def _scatter_added(y: Tensor, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Any:
    shape = source.shape
    return lambda g: g, None, None, lambda g: _within(g.gather(dim, index), shape)


def _index_added(y: Tensor, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Any = 1) -> Any:
    return lambda g: g, None, None, lambda g: alpha * g.index_select(dim, index)


def _index_copied(y: Tensor, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Any:
    return lambda g: g.index_fill(dim, index, 0), None, None, lambda g: g.index_select(dim, index)


def _mask_selected(y: Tensor, x: Tensor, mask: Tensor) -> Any:
    shape = x.shape

    def pull(g: Tensor) -> Tensor:
        # x itself may be what was broadcast
        whole = torch.broadcast_shapes(shape, mask.shape)
        return g.new_zeros(whole).masked_scatter(mask.expand(whole), g)

    return (pull,)


def _within(g: Tensor, shape: Any) -> Tensor:
    """In the shape of a source of which only the index's part was read."""
    if g.shape == shape:
        return g
    grad = g.new_zeros(shape)
    grad[tuple(slice(size) for size in g.shape)] = g
    return grad


TABLE = {
    aten.index.Tensor: _indexed,
    aten.index_put.default: _put,
    aten.gather.default: _gathered,
    aten.index_select.default: _row_selected,
    aten.scatter.src: _scattered,
    aten.scatter.value: _scattered,
    aten.scatter_add.default: _scatter_added,
    aten.index_add.default: _index_added,
    aten.index_copy.default: _index_copied,
    aten.index_fill.int_Scalar: lambda y, x, dim, index, value: (lambda g: g.index_fill(dim, index, 0),),
    aten.masked_select.default: _mask_selected,
}
