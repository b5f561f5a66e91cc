"""Moving numbers without changing them: views, permutations, joining, splitting, padding, repeating.

Each is a matrix of zeros and ones; its pullback is the transpose, which moves the numbers back, sums what
was copied, and puts zeros where nothing came from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.algorithm.aliasing import reading

aten = torch.ops.aten


def _reshaped(y: Any, x: Tensor, *_: Any) -> Any:
    shape = x.shape
    return (lambda g: g.reshape(shape),)


def _permuted(y: Tensor, x: Tensor, dims: list[int]) -> Any:
    inverse = sorted(range(len(dims)), key=lambda i: dims[i] % len(dims))
    return (lambda g: g.permute(inverse),)


def _joined(y: Tensor, tensors: list[Tensor], dim: int = 0) -> Any:
    # an empty vector may be joined to anything
    sizes = [0 if x.shape == (0,) else x.shape[dim] for x in tensors]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def part(start: int, size: int, shape: torch.Size) -> Any:
        return lambda g: g.narrow(dim, start, size).reshape(shape)

    return [part(start, size, x.shape) for start, size, x in zip(starts, sizes, tensors, strict=True)]


def _stacked(y: Tensor, tensors: list[Tensor], dim: int = 0) -> Any:
    return [lambda g, i=i: g.select(dim, i) for i in range(len(tensors))]


def _selected(y: Tensor, x: Tensor, dim: int, index: int) -> Any:
    shape = x.shape

    def pull(g: Tensor) -> Tensor:
        grad_x = g.new_zeros(shape)
        grad_x.select(dim, index).copy_(g)
        return grad_x

    return (pull,)


def _sliced(
    y: Tensor, x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    shape = x.shape

    def pull(g: Tensor) -> Tensor:
        grad_x = g.new_zeros(shape)
        aten.slice.Tensor(grad_x, dim, start, end, step).copy_(g)
        return grad_x

    return (pull,)


def _diagonal(y: Tensor, x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    shape = x.shape

    def pull(g: Tensor) -> Tensor:
        grad_x = g.new_zeros(shape)
        grad_x.diagonal(offset, dim1, dim2).copy_(g)
        return grad_x

    return (pull,)


def _unfolded(y: Tensor, x: Tensor, dim: int, size: int, step: int) -> Any:
    shape = x.shape
    if not shape:
        return (lambda g: g.reshape(shape),)
    # g has a dimension more, and counted from its end dim would be another
    dim %= len(shape)

    def pull(g: Tensor) -> Tensor:
        # the windows overlap: index_add sums what each element was copied to
        places = torch.arange(shape[dim], device=g.device).unfold(0, size, step)
        grad_x = g.new_zeros(shape).movedim(dim, 0)
        rows = g.movedim((dim, -1), (0, 1)).flatten(0, 1)
        return grad_x.index_add(0, places.flatten(), rows).movedim(0, dim)

    return (pull,)


def _padded(y: Tensor, x: Tensor, pad: list[int], value: Any = 0) -> Any:
    inverse = [-size for size in pad]
    return (lambda g: torch.constant_pad_nd(g, inverse),)


def _repeated(y: Tensor, x: Tensor, repeats: list[int]) -> Any:
    shape = (1,) * (len(repeats) - x.dim()) + tuple(x.shape)
    pairs = [size for pair in zip(repeats, shape, strict=True) for size in pair]
    return (lambda g: g.reshape(pairs).sum(tuple(range(0, len(pairs), 2))),)


def _rolled(y: Tensor, x: Tensor, shifts: list[int], dims: tuple[int, ...] = ()) -> Any:
    return (lambda g: torch.roll(g, [-shift for shift in shifts], dims),)


TABLE = {
    **dict.fromkeys((aten.view.default, aten._unsafe_view.default, aten._reshape_alias.default), _reshaped),
    **dict.fromkeys((aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims), _reshaped),
    **dict.fromkeys((aten.unsqueeze.default, aten._reshape_copy.default), _reshaped),
    aten.as_strided.default: lambda y, x, *_: (reading(y, x),),
    aten.expand.default: lambda y, x, size, **_: (lambda g: g,),
    aten.t.default: lambda y, x: (lambda g: g.t(),),
    aten.transpose.int: lambda y, x, a, b: (lambda g: g.transpose(a, b),),
    aten.permute.default: _permuted,
    aten.cat.default: _joined,
    aten.stack.default: _stacked,
    aten.split.Tensor: lambda y, x, size, dim=0: (lambda *gs: torch.cat(gs, dim),),
    aten.split_with_sizes.default: lambda y, x, sizes, dim=0: (lambda *gs: torch.cat(gs, dim),),
    aten.unsafe_split.Tensor: lambda y, x, size, dim=0: (lambda *gs: torch.cat(gs, dim),),
    aten.rot90.default: lambda y, x, k=1, dims=(0, 1): (lambda g: torch.rot90(g, -k, dims),),
    aten.unbind.int: lambda y, x, dim=0: (lambda *gs: torch.stack(gs, dim),),
    aten.select.int: _selected,
    aten.slice.Tensor: _sliced,
    aten.diagonal.default: _diagonal,
    aten.diag_embed.default: lambda y, x, offset=0, a=-2, b=-1: (lambda g: g.diagonal(offset, a, b),),
    aten.unfold.default: _unfolded,
    aten.constant_pad_nd.default: _padded,
    aten.repeat.default: _repeated,
    aten.roll.default: _rolled,
    aten.flip.default: lambda y, x, dims: (lambda g: g.flip(dims),),
    aten.tril.default: lambda y, x, k=0: (lambda g: g.tril(k),),
    aten.triu.default: lambda y, x, k=0: (lambda g: g.triu(k),),
}
