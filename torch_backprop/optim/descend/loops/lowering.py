"""A graph of ATen's operators as loops: each operator's value from the values of its arguments."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import fx

from torch_backprop.optim.descend.loops import indexing, products, windows
from torch_backprop.optim.descend.loops.elementwise import (
    ARITHMETIC,
    COMPARISON,
    arithmetic,
    clamp,
    constant,
    elementwise,
    literal,
    power,
)
from torch_backprop.optim.descend.loops.program import Program, Unknown, Value, cast, spread

aten: Any = torch.ops.aten
prims: Any = torch.ops.prims


def reduction(program: Program, x: Value, dims: Any, keep: bool, start: str, form: str, dtype: Any) -> Value:
    """Return `form` of a running result {0} and each element {1} over dimensions, all if there are none."""
    rank = len(x.shape)
    over = {dim % rank for dim in (dims or range(rank))} if rank else set()
    shape = tuple(1 if dim in over else size for dim, size in enumerate(x.shape))
    x = cast(x, dtype)
    # Read twice by the comparisons of a maximum.
    x = program.settle(x) if form.count("{1}") > 1 else x
    y = program.array(shape, dtype)
    with program.loops(*shape) as index:
        result = program.running(dtype, start)
        with program.loops(*(size for dim, size in enumerate(x.shape) if dim in over)) as inner:
            rest = iter(inner)
            place = tuple(next(rest) if dim in over else i for dim, i in enumerate(index))
            program.emit(f"{result} = {form.format(result, x.at(place))};")
        program.emit(f"{y.at(index)} = {result};")
    kept = [size for dim, size in enumerate(shape) if keep or dim not in over]
    return program.reshape(y, tuple(kept))


def total(program: Program, meta: Any, x: Value, dims: Any = None, keep: bool = False, **_: Any) -> Value:
    """Sum."""
    return reduction(program, x, dims, keep, "0", "{0} + {1}", meta.dtype)


def mean(program: Program, meta: Any, x: Value, dims: Any = None, keep: bool = False, **_: Any) -> Value:
    """Sum over count."""
    count = prod(x.shape) / max(1, meta.numel())
    return elementwise(program, "({0} / {1})", meta.dtype, [total(program, meta, x, dims, keep), count])


def variance_and_mean(
    program: Program, metas: Any, x: Value, dims: Any = None, *, correction: Any = 1, keepdim: bool = False
) -> tuple[Value, Value]:
    """Mean, and mean of the squared distances from it."""
    x, rank = program.settle(x), len(x.shape)
    dims = [dim % rank for dim in (dims or range(rank))]
    kept = reduction(program, x, dims, True, "0", "{0} + {1}", x.dtype)
    count = prod(x.shape[dim] for dim in dims)
    middle = program.settle(elementwise(program, "({0} / {1})", x.dtype, [kept, count]))
    squares = elementwise(program, "(({0} - {1}) * ({0} - {1}))", x.dtype, [x, middle])
    squares = reduction(program, squares, dims, keepdim, "0", "{0} + {1}", x.dtype)
    over = elementwise(
        program, "({0} / {1})", x.dtype, [squares, count - (1 if correction is None else correction)]
    )
    return over, program.reshape(middle, tuple(metas[1].shape))


def extreme(sign: str, start: str) -> Callable[..., Value]:
    """The largest or the smallest; what is not a number wins."""

    def find(program: Program, meta: Any, x: Value, dims: Any = None, keep: bool = False) -> Value:
        form = f"({{1}} {sign} {{0}} || {{1}} != {{1}} ? {{1}} : {{0}})"
        return reduction(program, x, dims, keep, start, form, meta.dtype)

    return find


def plus_product(
    program: Program, meta: Any, c: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1
) -> Value:
    """beta c + alpha a b."""
    ab = products.matrix_product(program, a, b)
    form = "({0} + {1})" if beta == alpha == 1 else "({2} * {0} + {3} * {1})"
    return elementwise(program, form, meta.dtype, [c, ab, beta, alpha])


def filled(program: Program, meta: Any, *args: Any, **kwargs: Any) -> Value:
    """The same number everywhere; it is the last argument."""
    return constant(args[-1], meta.dtype, tuple(meta.shape))


def dropped(program: Program, meta: Any, x: Value, *_: Any, **__: Any) -> Value:
    """The same elements in another shape."""
    return program.reshape(x, tuple(meta.shape))


def converted(program: Program, meta: Any, x: Value, *_: Any, **__: Any) -> Value:
    """The same elements, maybe in another dtype."""
    return cast(x, meta.dtype)


def convolved(program: Program, meta: Any, *args: Any) -> Value:
    """A convolution of rows, which have one dimension before the channels."""
    return products.convolution(program, *args, shape=tuple(meta.shape))


def padded(program: Program, meta: Any, x: Value, pad: list[int], number: float = 0) -> Value:
    """A number around the last dimensions."""
    sides = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    if min(pad) < 0:
        raise Unknown("a negative padding")
    y = program.filled(tuple(meta.shape), meta.dtype, literal(number, meta.dtype))
    inside, outer = y, len(x.shape) - len(sides)
    for dim, (before, _) in enumerate(sides, outer):
        inside = indexing.slice_of(program, inside, dim, before, before + x.shape[dim])
    program.store(inside, x)
    return y


def chosen(program: Program, meta: Any, condition: Value, a: Any, b: Any) -> Value:
    """One of two, element by element."""
    a, b = (
        cast(each, meta.dtype) if isinstance(each, Value) else constant(each, meta.dtype) for each in (a, b)
    )
    shape = tuple(meta.shape)
    condition, a, b = (spread(each, shape) for each in (condition, a, b))
    return Value(shape, meta.dtype, lambda i: f"({condition.at(i)} ? {a.at(i)} : {b.at(i)})")


Operator = Callable[..., Any]
"""From a program, a tensor like the result, and the arguments."""

OPERATORS: dict[Any, Operator] = {
    aten.mm.default: lambda program, _, a, b: products.matrix_product(program, a, b),
    aten.bmm.default: lambda program, _, a, b: products.matrix_product(program, a, b),
    aten.addmm.default: plus_product,
    aten.baddbmm.default: plus_product,
    aten.convolution.default: convolved,
    aten.max_pool2d_with_indices.default: lambda program, metas, *args: windows.max_pool(
        program, *args, shapes=tuple(tuple(meta.shape) for meta in metas)
    ),
    aten.avg_pool2d.default: lambda program, meta, *args: windows.average_pool(
        program, *args, shape=tuple(meta.shape)
    ),
    aten.sum.default: total,
    aten.sum.dim_IntList: total,
    aten.mean.default: mean,
    aten.mean.dim: mean,
    aten.var_mean.correction: variance_and_mean,
    aten.amax.default: extreme(">", "-INFINITY"),
    aten.amin.default: extreme("<", "INFINITY"),
    aten.any.dim: lambda program, meta, x, dim, keep=False: reduction(
        program, x, [dim], keep, "0", "({0} || {1})", meta.dtype
    ),
    aten.where.self: chosen,
    aten.clamp.default: clamp,
    aten.clamp_min.default: clamp,
    aten.clamp_max.default: lambda program, meta, x, high: clamp(program, meta, x, None, high),
    aten.pow.Tensor_Scalar: power,
    aten.full.default: filled,
    aten.full_like.default: filled,
    aten.zeros_like.default: lambda program, meta, *_, **__: constant(0, meta.dtype, tuple(meta.shape)),
    aten.ones_like.default: lambda program, meta, *_, **__: constant(1, meta.dtype, tuple(meta.shape)),
    aten.scalar_tensor.default: filled,
    aten.constant_pad_nd.default: padded,
    aten.copy.default: lambda program, meta, _, x, *__: cast(
        spread(program.settle(x), tuple(meta.shape)), meta.dtype
    ),
    aten.alias.default: converted,
    aten.clone.default: converted,
    aten.lift_fresh_copy.default: converted,
    aten.detach.default: converted,
    aten._to_copy.default: converted,
    prims.convert_element_type.default: converted,
    aten.view.default: dropped,
    aten._unsafe_view.default: dropped,
    aten.squeeze.dims: dropped,
    aten.squeeze.dim: dropped,
    aten.unsqueeze.default: dropped,
    aten.expand.default: lambda program, meta, x, *_: spread(program.settle(x), tuple(meta.shape)),
    aten.permute.default: lambda program, _, x, dims: indexing.permute(program, x, dims),
    aten.slice.Tensor: lambda program, _, *args: indexing.slice_of(program, *args),
    aten.select.int: lambda program, _, *args: indexing.select(program, *args),
    aten.split_with_sizes.default: lambda program, _, *args: indexing.split(program, *args),
    aten.cat.default: lambda program, meta, parts, dim=0: indexing.cat(
        program, parts, dim, tuple(meta.shape), meta.dtype
    ),
    aten.gather.default: lambda program, _, x, dim, index, **__: indexing.gather(program, x, dim, index),
    aten.index_select.default: lambda program, _, *args: indexing.index_select(program, *args),
    aten.embedding.default: lambda program, _, w, index, *__: indexing.take(program, w, [index]),
    aten.index.Tensor: lambda program, _, x, indices: indexing.take(program, x, indices),
    aten.index_put.default: lambda program, _, *args: indexing.put(program, *args),
    aten.index_add.default: lambda program, _, *args: indexing.index_add(program, *args),
    aten.slice_scatter.default: lambda program, _, *args: indexing.slice_scatter(program, *args),
    aten.select_scatter.default: lambda program, _, *args: indexing.select_scatter(program, *args),
    aten.scatter_add.default: lambda program, _, *args: indexing.scatter(program, *args, sign="+="),
    aten.scatter.src: lambda program, _, *args: indexing.scatter(program, *args, sign="="),
    aten.scatter.value: lambda program, meta, x, dim, index, number: indexing.scatter(
        program, x, dim, index, constant(number, meta.dtype, index.shape), sign="="
    ),
    aten.isnan.default: lambda program, _, x: elementwise(program, "({0} != {0})", torch.bool, [x]),
    operator.getitem: lambda program, _, values, place: values[place],
}


def lower(program: Program, graph: fx.Graph, given: dict[fx.Node, Value]) -> list[Value]:
    """Write the nodes of `graph` that are not `given`, and return the values of its outputs.

    Raises:
        Unknown: naming the operator or dtype that is not known.
    """
    values: dict[fx.Node, Any] = dict(given)
    for node in graph.nodes:
        if node in values:
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "output":
            return list(args[0])
        value = _call(program, node, list(args), dict(kwargs))
        # What is read more than once is computed once.
        if isinstance(value, Value) and len(node.users) > 1:
            value = program.settle(value)
        values[node] = value
    raise AssertionError("a graph ends with its output")


def _call(program: Program, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    meta = node.meta["val"]
    if node.target in ARITHMETIC or node.target in COMPARISON:
        return arithmetic(program, node.target, meta, args, kwargs)
    source: Any = node.args[0] if node.args else None
    if node.target is aten.as_strided.default and source.meta["val"].is_contiguous():
        # Its strides are those of PyTorch's memory, which is laid out as an array here is if it is dense.
        return indexing.view(program.settle_dense(args[0]), *args[1:])
    if node.target not in OPERATORS:
        raise Unknown(str(node.target))
    return OPERATORS[node.target](program, meta, *args, **kwargs)
