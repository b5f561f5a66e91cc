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


def _mask_scattered(y: Tensor, x: Tensor, mask: Tensor, source: Tensor) -> Any:
    shape, count = source.shape, source.numel()

    def to_source(g: Tensor) -> Tensor:
        # the first of its elements are written, as many as the mask has places
        read = g.masked_select(mask)
        return torch.cat((read, read.new_zeros(count - read.numel()))).reshape(shape)

    return lambda g: g.masked_fill(mask, 0), None, to_source


def _taken(y: Tensor, x: Tensor, index: Tensor) -> Any:
    shape, count = x.shape, x.numel()
    places = index % count
    return (lambda g: g.new_zeros(count).index_add(0, places.flatten(), g.flatten()).reshape(shape),)


def _slice_scattered(y: Tensor, x: Tensor, part: Tensor, dim: int = 0, *where: Any) -> Any:
    return (
        lambda g: torch.slice_scatter(g, torch.zeros_like(aten.slice.Tensor(g, dim, *where)), dim, *where),
        lambda g: aten.slice.Tensor(g, dim, *where),
    )


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
    aten.index_fill.int_Tensor: lambda y, x, dim, index, value: (
        lambda g: g.index_fill(dim, index, 0),
        None,
        None,
        lambda g: (g - g.index_fill(dim, index, 0)).sum(),
    ),
    aten.take.default: _taken,
    aten.select_scatter.default: lambda y, x, part, dim, index: (
        lambda g: torch.select_scatter(g, torch.zeros_like(g.select(dim, index)), dim, index),
        lambda g: g.select(dim, index),
    ),
    aten.slice_scatter.default: _slice_scattered,
    aten.diagonal_scatter.default: lambda y, x, part, *where: (
        lambda g: torch.diagonal_scatter(g, torch.zeros_like(g.diagonal(*where)), *where),
        lambda g: g.diagonal(*where),
    ),
    aten.masked_scatter.default: _mask_scattered,
    aten.masked_select.default: _mask_selected,
}
