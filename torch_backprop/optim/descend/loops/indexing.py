"""Views, and arrays read or written at places that other arrays hold."""

from __future__ import annotations

from typing import Any

import torch

from torch_backprop.optim.descend.loops.program import Index, Program, Unknown, Value, spread, stored


def view(value: Value, shape: Any, strides: Any, offset: int = 0) -> Value:
    """Return a view of a value in memory; `offset` counts from its own first element."""
    assert value.memory is not None
    return stored(value.memory, value.dtype, tuple(shape), tuple(strides), value.offset + offset)


def permute(program: Program, x: Value, dims: list[int]) -> Value:
    """Return the dimensions in another order."""
    x = program.settle(x)
    return view(x, [x.shape[dim] for dim in dims], [x.strides[dim] for dim in dims])


def slice_of(
    program: Program, x: Value, dim: int = 0, start: Any = None, stop: Any = None, step: int = 1
) -> Value:
    """Return a slice along a dimension."""
    x = program.settle(x)
    dim %= len(x.shape)
    places = range(x.shape[dim])[start:stop:step]
    shape, strides = list(x.shape), list(x.strides)
    offset = places.start * strides[dim] if len(places) else 0
    shape[dim], strides[dim] = len(places), strides[dim] * step
    return view(x, shape, strides, offset)


def select(program: Program, x: Value, dim: int, place: int) -> Value:
    """Return what is at a place along a dimension, without it."""
    dim, place = dim % len(x.shape), place % x.shape[dim]
    part = slice_of(program, x, dim, place, place + 1)
    shape, strides = ((*each[:dim], *each[dim + 1 :]) for each in (part.shape, part.strides))
    return view(part, shape, strides)


def split(program: Program, x: Value, sizes: list[int], dim: int = 0) -> tuple[Value, ...]:
    """Return consecutive slices."""
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    return tuple(slice_of(program, x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True))


def cat(program: Program, parts: list[Value], dim: int, shape: tuple[int, ...], dtype: torch.dtype) -> Value:
    """Return arrays one after the other along a dimension."""
    y, start = program.array(shape, dtype), 0
    # An empty vector may be joined to anything.
    for part in (part for part in parts if part.shape != (0,)):
        program.store(slice_of(program, y, dim, start, start + part.shape[dim]), part)
        start += part.shape[dim]
    return y


def checked(program: Program, index: Value, size: int) -> Value:
    """Return indices in memory, of which none may be outside: the example is left to others then."""
    index = program.settle(index)
    with program.loops(*index.shape) as i:
        program.emit(f"if ({index.at(i)} < 0 || {index.at(i)} >= {size}) return example;")
    return index


def gather(program: Program, x: Value, dim: int, index: Value) -> Value:
    """Return what is at places along a dimension, a place for each element."""
    dim %= len(x.shape)
    x, index = program.settle(x), checked(program, index, x.shape[dim])
    return Value(index.shape, x.dtype, lambda i: x.at((*i[:dim], index.at(i), *i[dim + 1 :])))


def index_select(program: Program, x: Value, dim: int, index: Value) -> Value:
    """Return what is at places along a dimension, of a vector of places."""
    return take(program, x, [None] * (dim % len(x.shape)) + [index])


def take(program: Program, x: Value, indices: list[Value | None]) -> Value:
    """Return x at arrays of places, which replace the one dimension that has one."""
    dim, places = the_only(indices)
    x, places = program.settle(x), checked(program, places, x.shape[dim])
    shape = (*x.shape[:dim], *places.shape, *x.shape[dim + 1 :])
    stop = dim + len(places.shape)

    def at(i: Index) -> str:
        return x.at((*i[:dim], places.at(i[dim:stop]), *i[stop:]))

    return Value(shape, x.dtype, at)


def put(program: Program, x: Value, indices: list[Value | None], source: Value, add: bool = False) -> Value:
    """Return x with `source` assigned or added at arrays of places along one dimension."""
    dim, places = the_only(indices)
    y, places = program.copied(x), checked(program, places, x.shape[dim])
    shape = (*x.shape[:dim], *places.shape, *x.shape[dim + 1 :])
    source, stop = spread(program.settle(source), shape), dim + len(places.shape)
    with program.loops(*shape) as i:
        target = y.at((*i[:dim], places.at(i[dim:stop]), *i[stop:]))
        program.emit(f"{target} {'+=' if add else '='} {source.at(i)};")
    return y


def the_only(indices: list[Value | None]) -> tuple[int, Value]:
    """Return the one dimension that has an array of places, and the array.

    Raises:
        Unknown: if several have one, or it is a mask.
    """
    found = [(dim, each) for dim, each in enumerate(indices) if each is not None]
    if len(found) != 1 or found[0][1].dtype == torch.bool:
        raise Unknown("an index of several tensors, or a mask")
    return found[0]


def index_add(program: Program, x: Value, dim: int, index: Value, source: Value) -> Value:
    """Return x with the slices of `source` added at a vector of places along a dimension."""
    return put(program, x, [None] * (dim % len(x.shape)) + [index], source, True)


def slice_scatter(program: Program, x: Value, source: Value, *where: Any) -> Value:
    """Return x with a slice replaced."""
    y = program.copied(x)
    program.store(slice_of(program, y, *where), source)
    return y


def select_scatter(program: Program, x: Value, source: Value, dim: int, place: int) -> Value:
    """Return x with what is at a place along a dimension replaced."""
    y = program.copied(x)
    program.store(select(program, y, dim, place), source)
    return y


def scatter(program: Program, x: Value, dim: int, index: Value, source: Value, sign: str) -> Value:
    """Return x with `source` assigned ("=") or added ("+=") at places along a dimension."""
    dim %= len(x.shape)
    y = program.copied(x)
    source, index = program.settle(source), checked(program, index, x.shape[dim])
    with program.loops(*index.shape) as i:
        program.emit(f"{y.at((*i[:dim], index.at(i), *i[dim + 1 :]))} {sign} {source.at(i)};")
    return y
