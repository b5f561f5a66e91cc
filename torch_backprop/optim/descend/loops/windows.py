"""Pooling as loops over windows; positions outside the input take no part."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torch_backprop.optim.descend.loops.program import Index, Program, Value


def max_pool(
    program: Program,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
    *,
    shapes: tuple[tuple[int, ...], ...],
) -> tuple[Value, Value]:
    """Return the largest element of each window, of the last it is not a number, and its place."""
    x = program.settle(x)
    y, places = program.array(shapes[0], x.dtype), program.array(shapes[1], torch.int64)
    dims = len(kernel)
    stride, padding, dilation = (_all(each, dims) for each in (stride or kernel, padding, dilation))
    with program.loops(*y.shape) as index:
        target, place = y.at(index), places.at(index)
        program.emit(f"{place} = -1;")
        with program.loops(*kernel) as k:
            p, inside = _position(index[-dims:], k, stride, padding, dilation, x.shape[-dims:])
            element = x.at((*index[:-dims], *p))
            flat = p[0]
            for i, size in zip(p[1:], x.shape[1 - dims :], strict=True):
                flat = f"({flat} * {size} + {i})"
            better = f"{place} < 0 || {element} > {target} || {element} != {element}"
            program.emit(f"if ({inside} && ({better})) {{ {target} = {element}; {place} = {flat}; }}")
    return y, places


def average_pool(
    program: Program,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    shape: tuple[int, ...],
) -> Value:
    """Return the mean of each window, over the divisor that torch takes."""
    x = program.settle(x)
    dims, y = len(kernel), program.filled(shape, x.dtype, "0")
    stride, padding = _all(stride or kernel, dims), _all(padding, dims)
    with program.loops(*shape) as index:
        program.emit("int64_t counted = 0;")
        with program.loops(*kernel) as k:
            p, inside = _position(index[-dims:], k, stride, padding, [1] * dims, x.shape[-dims:])
            element = x.at((*index[:-dims], *p))
            program.emit(f"if ({inside}) {{ {y.at(index)} += {element}; counted++; }}")
            if count_include_pad:
                sizes = zip(p, x.shape[-dims:], padding, strict=True)
                framed = " && ".join(f"{i} < {size + pad}" for i, size, pad in sizes)
                program.emit(f"else if ({framed}) counted++;")
        program.emit(f"{y.at(index)} /= {divisor_override or 'counted'};")
    return y


def _all(values: Sequence[int], dims: int) -> list[int]:
    return list(values) * (dims // len(values))


def _position(
    i: Index,
    k: Index,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    sizes: Sequence[int],
) -> tuple[list[str], str]:
    """Return the position of place k in window i, and the condition for it to be inside the input."""
    steps = zip(i, k, stride, dilation, padding, strict=True)
    p = [f"({a} * {s} + {b} * {d} - {pad})" for a, b, s, d, pad in steps]
    bounds = [f"{at} >= 0 && {at} < {size}" for at, size in zip(p, sizes, strict=True)]
    return p, " && ".join(bounds)
