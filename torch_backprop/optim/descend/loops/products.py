"""Matrix products and convolutions as loops."""

from __future__ import annotations

from collections.abc import Sequence

from torch_backprop.optim.descend.loops.program import Program, Value, stored


def matrix_product(program: Program, a: Value, b: Value) -> Value:
    """(*, m, k) and (*, k, n) to (*, m, n)."""
    a, b = program.settle(a), program.settle(b)
    *batch, m, k = a.shape
    n = b.shape[-1]
    shape = (*batch, m, n)
    if k == 1:
        # An outer product is computed where it is read: in an update there is no array of its size.
        return Value(shape, a.dtype, lambda i: f"({a.at((*i[:-1], '0'))} * {b.at((*i[:-2], '0', i[-1]))})")
    if b.strides[-1] != 1:
        return _dot_products(program, a, b, shape)
    c = program.filled(shape, a.dtype, "0")
    with program.loops(*batch, m, k, n) as (*first, i, s, j):
        program.emit(f"{c.at((*first, i, j))} += {a.at((*first, i, s))} * {b.at((*first, s, j))};")
    return c


def _dot_products(program: Program, a: Value, b: Value, shape: tuple[int, ...]) -> Value:
    """The same where the columns of b lie in memory, so that the innermost loop is a sum along them."""
    c = program.array(shape, a.dtype)
    with program.loops(*shape) as (*first, i, j):
        sum_ = program.running(a.dtype, "0")
        with program.loops(a.shape[-1]) as (s,):
            program.emit(f"{sum_} += {a.at((*first, i, s))} * {b.at((*first, s, j))};")
        program.emit(f"{c.at((*first, i, j))} = {sum_};")
    return c


def convolution(
    program: Program,
    x: Value,
    w: Value,
    b: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *,
    shape: tuple[int, ...],
) -> Value:
    """Inputs (n, c, *) to outputs of `shape`, (n, o, *), with torch's arguments.

    Position p = stride * i + dilation * k of the padded larger side meets position i of the smaller one at
    position k of the kernel: a convolution adds from p to i, and a transposed one from i to p.
    """
    x, w = program.settle(x), program.settle(w)
    kernel = w.shape[2:]
    stride, padding, dilation = (
        list(each) * (len(kernel) // len(each)) for each in (stride, padding, dilation)
    )
    large, small = (shape[2:], x.shape[2:]) if transposed else (x.shape[2:], shape[2:])
    steps = list(zip(stride, dilation, strict=True))
    wide = frame(steps, small, kernel, large, padding)
    y = program.filled((*shape[:2], *(wide if transposed else small)), x.dtype, "0")
    if not transposed and wide != x.shape[2:]:
        x = padded(program, x, wide, padding)
    ins, outs = x.shape[1] // groups, shape[1] // groups
    # The longer of the last two innermost: a loop over a short one is not worth its vectors.
    inside, last = (small, kernel) if kernel[-1] > small[-1] else (kernel, small)
    with program.loops(shape[0], groups, outs, ins, *inside, *last) as (n, group, out, into, *rest):
        parts = rest[: len(kernel)], rest[len(kernel) :]
        i, k = parts if inside is small else parts[::-1]
        p = [f"({a} * {s} + {c} * {d})" for a, c, (s, d) in zip(i, k, steps, strict=True)]
        o, c = f"({group} * {outs} + {out})", f"({group} * {ins} + {into})"
        weight = w.at((c, out, *k) if transposed else (o, into, *k))
        source, target = (i, p) if transposed else (p, i)
        program.emit(f"{y.at((n, o, *target))} += {x.at((n, c, *source))} * {weight};")
    if transposed:
        y = window(y, shape, padding)
    return y if b is None else shifted(program, y, b, shape)


def shifted(program: Program, y: Value, b: Value, shape: tuple[int, ...]) -> Value:
    """Outputs with the bias of their channel added."""
    b = program.settle(b)
    return Value(shape, y.dtype, lambda i: f"({y.at(i)} + {b.at((i[1],))})")


def frame(
    steps: list[tuple[int, int]],
    small: Sequence[int],
    kernel: Sequence[int],
    large: Sequence[int],
    padding: Sequence[int],
) -> tuple[int, ...]:
    """Return the sizes of the padded larger side, at least as far as the last window reaches."""
    sizes = zip(steps, small, kernel, large, padding, strict=True)
    return tuple(max(s * (i - 1) + d * (k - 1) + 1, n + 2 * p) for (s, d), i, k, n, p in sizes)


def padded(program: Program, x: Value, wide: tuple[int, ...], padding: Sequence[int]) -> Value:
    """Return x with zeros around its last dimensions."""
    y = program.filled((*x.shape[:2], *wide), x.dtype, "0")
    program.store(window(y, x.shape, padding), x)
    return y


def window(y: Value, shape: tuple[int, ...], padding: Sequence[int]) -> Value:
    """Return the part of y of a shape that begins at `padding` in its last dimensions."""
    assert y.memory is not None
    offset = sum(p * step for p, step in zip(padding, y.strides[2:], strict=True))
    return stored(y.memory, y.dtype, shape, y.strides, y.offset + offset)
