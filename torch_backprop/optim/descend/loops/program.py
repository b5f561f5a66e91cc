r"""A program in C, written while a graph is walked: loops over arrays of fixed shapes.

A value is known by the C expression of its element at an index. One that lies in memory has strides, so that
views cost nothing; any other is computed where it is read, so that chains of elementwise operators, and outer
products with them, become one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch

Index = tuple[str, ...]

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.bool: "_Bool",
}

ALIGNMENT = 64
"""Bytes of a cache line."""


class Unknown(Exception):
    """Something that cannot be written in C here; the message names it."""


def c_type(dtype: torch.dtype) -> str:
    """Return the name of a dtype in C.

    Raises:
        Unknown: if it has none.
    """
    if dtype not in TYPES:
        raise Unknown(str(dtype))
    return TYPES[dtype]


@dataclass(frozen=True)
class Value:
    """An array.

    Attributes:
        shape, dtype: its own.
        at: returns the C expression of the element at an index, an expression for each dimension.
        memory: the name of the C array that it lies in, if it does, with `strides` from `offset` on.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    at: Callable[[Index], str]
    memory: str | None = None
    strides: tuple[int, ...] = ()
    offset: int = 0

    @property
    def is_dense(self) -> bool:
        """Whether it lies in memory row by row."""
        steps = zip(self.shape, self.strides, dense(self.shape), strict=True) if self.memory else ()
        return self.memory is not None and all(size == 1 or a == b for size, a, b in steps)


def dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an array that lies row by row."""
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))


def stored(
    memory: str, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
) -> Value:
    """Return a view of the C array `memory`."""

    def at(index: Index) -> str:
        terms = [f"{i}*{step}" if step != 1 else i for i, step in zip(index, strides, strict=True) if step]
        terms = [term for term in terms if not term.startswith("0*") and term != "0"]
        return f"{memory}[{' + '.join([*terms, *([str(offset)] if offset else [])]) or 0}]"

    return Value(shape, dtype, at, memory, strides, offset)


def cast(value: Value, dtype: torch.dtype) -> Value:
    """Return `value` in another dtype, computed where it is read."""
    if value.dtype == dtype:
        return value
    # As torch: whatever is not 0 is true, and a truncated 0.5 would not be.
    form = "({} != 0)" if dtype == torch.bool else f"(({c_type(dtype)})({{}}))"
    return Value(value.shape, dtype, lambda index: form.format(value.at(index)))


def spread(value: Value, shape: tuple[int, ...]) -> Value:
    """Return `value` broadcast to `shape`."""
    if value.shape == shape:
        return value
    new = len(shape) - len(value.shape)
    if value.memory is None:

        def at(index: Index) -> str:
            own = zip(value.shape, index[new:], strict=True)
            return value.at(tuple("0" if size == 1 else i for size, i in own))

        return Value(shape, value.dtype, at)
    own = [step if size != 1 else 0 for size, step in zip(value.shape, value.strides, strict=True)]
    return stored(value.memory, value.dtype, shape, (0,) * new + tuple(own), value.offset)


class Program:
    """The statements so far.

    Attributes:
        lines: of the body that runs for each example.
        arrays: declarations of the arrays in between, which lie in one block of `size` bytes.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.arrays: list[str] = []
        self.size = 0
        self._names = 0

    def name(self, letter: str) -> str:
        """Return a new name."""
        self._names += 1
        return f"{letter}{self._names}"

    def emit(self, line: str) -> None:
        """Append a line."""
        self.lines.append(line)

    def array(self, shape: tuple[int, ...], dtype: torch.dtype) -> Value:
        """Declare an array."""
        memory, kind = self.name("a"), c_type(dtype)
        self.arrays.append(f"{kind} *restrict {memory} = ({kind} *)(scratch + {self.size});")
        self.size += -(-prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        return stored(memory, dtype, shape, dense(shape))

    def running(self, dtype: torch.dtype, start: str) -> str:
        """Declare a number, which unlike an array may stay in a register, and return its name."""
        name = self.name("n")
        self.emit(f"{c_type(dtype)} {name} = {start};")
        return name

    @contextmanager
    def loops(self, *sizes: int) -> Iterator[Index]:
        """Loop over sizes, the last one innermost; the block gets the indices."""
        index = tuple("0" if size == 1 else self.name("i") for size in sizes)
        for i, size in zip(index, sizes, strict=True):
            if size != 1:
                self.emit(f"for (int64_t {i} = 0; {i} < {size}; {i}++)")
        self.emit("{")
        yield index
        self.emit("}")

    def store(self, target: Value, value: Value) -> None:
        """Assign `value`, of the same shape or one that spreads to it, to an array."""
        value = cast(spread(value, target.shape), target.dtype)
        with self.loops(*target.shape) as index:
            self.emit(f"{target.at(index)} = {value.at(index)};")

    def settle(self, value: Value) -> Value:
        """Return `value` as one that lies in memory."""
        return self.copied(value) if value.memory is None else value

    def copied(self, value: Value) -> Value:
        """Return a copy, row by row, that may be written to."""
        target = self.array(value.shape, value.dtype)
        self.store(target, value)
        return target

    def settle_dense(self, value: Value) -> Value:
        """Return `value` as one that lies in memory row by row."""
        return value if value.is_dense else self.copied(value)

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Return the same elements, row by row, in another shape."""
        value = self.settle_dense(value)
        assert value.memory is not None
        return stored(value.memory, value.dtype, shape, dense(shape), value.offset)

    def filled(self, shape: tuple[int, ...], dtype: torch.dtype, number: str) -> Value:
        """Declare an array that has a number everywhere."""
        target = self.array(shape, dtype)
        self.store(target, Value(shape, dtype, lambda _: number))
        return target
