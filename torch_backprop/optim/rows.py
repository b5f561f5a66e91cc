"""The rows of one loader batch: counting them, and cutting out those that go to the open group.

Rows are tensors whose first dimension runs over examples, alone or nested in tuples, lists and mappings.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def named_tensors(rows: Any, name: str = "rows") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in nested `rows` with its place, such as ``rows[0]['mask']``.

    Raises:
        TypeError: naming the place of anything that is no tensor, tuple, list or mapping.
    """
    if isinstance(rows, Tensor):
        yield name, rows
    elif isinstance(rows, Mapping):
        for key, value in rows.items():
            yield from named_tensors(value, f"{name}[{key!r}]")
    elif isinstance(rows, (tuple, list)):
        for index, value in enumerate(rows):
            yield from named_tensors(value, f"{name}[{index}]")
    else:
        kind = type(rows).__name__
        raise TypeError(f"{name} is a {kind}: rows are tensors, or tuples, lists and dicts of tensors.")


def count_rows(rows: Any) -> int:
    """Return the size of the first dimension that all tensors in `rows` share.

    Raises:
        TypeError: if there is no tensor, or something other than tensors.
        ValueError: if a tensor has no first dimension, or another size of it than the first tensor.

    Example:
        >>> count_rows((torch.zeros(3, 2), {"label": torch.zeros(3)}))
        3
    """
    tensors = dict(named_tensors(rows))
    if not tensors:
        raise TypeError(
            "rows holds no tensor: pass the tensors of the loader batch, for example inputs, targets."
        )
    for name, tensor in tensors.items():
        if tensor.dim() == 0:
            raise ValueError(f"{name} is a scalar: the first dimension of every tensor runs over examples.")
    first, count = next((name, len(tensor)) for name, tensor in tensors.items())
    for name, tensor in tensors.items():
        if len(tensor) != count:
            raise ValueError(f"{name} has {len(tensor)} rows and {first} has {count}: they must be as many.")
    return count


def cut(rows: Any, start: int, stop: int) -> Any:
    """Return rows `start` to below `stop` as views, nested as in `rows`; mappings become dicts."""
    if isinstance(rows, Tensor):
        return rows[start:stop]
    if isinstance(rows, Mapping):
        return {key: cut(value, start, stop) for key, value in rows.items()}
    # A namedtuple, unlike a tuple, takes its fields one by one.
    parts = [cut(value, start, stop) for value in rows]
    return type(rows)(*parts) if hasattr(rows, "_fields") else type(rows)(parts)


def as_weights(weight: Any, count: int) -> list[float]:
    """Return the weights of `count` examples as numbers.

    Raises:
        ValueError: if there are not `count` of them in one dimension, or one is negative or not finite.
    """
    weight = torch.as_tensor(weight)
    if weight.shape != (count,):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: one weight per row, ({count},), is needed."
        )
    # One transfer for the whole loader batch: a sum on the device for each group would wait for it each time.
    weights = [float(value) for value in weight.tolist()]
    for row, value in enumerate(weights):
        if not 0 <= value < math.inf:
            raise ValueError(f"weight[{row}]={value} is not possible: weights are finite and at least 0.")
    return weights


@dataclass
class Cursor:
    """Where a step stands in its loader batch: rows `start` to below `stop` go to the open group."""

    start: int = 0
    stop: int = 0
    count: int | None = None
    weights: list[float] | None = None

    def admit(self, rows: tuple[Any, ...], weight: Any) -> None:
        """Note how many rows the loader batch has, and their weights.

        Raises:
            ValueError: if an earlier call in the same step had another number of rows.
        """
        count = count_rows(rows)
        if self.count not in (None, count):
            raise ValueError(f"take() got {count} rows, and {self.count} before in the same step.")
        self.count = count
        # A closure may take inputs and targets apart, the weights with either of them, once for each group.
        if weight is not None and self.weights is None:
            self.weights = as_weights(weight, count)

    def window(self, rows: tuple[Any, ...], room: float) -> tuple[Any, ...]:
        """Move `stop` to where the open group has no more room, and return the rows up to there."""
        count = self.count or 0
        self.stop = int(min(count, self.start + room))
        # Views of whole batches would cost time for nothing, at each step of a loader that cuts the groups.
        if self.stop - self.start == count:
            return rows
        return tuple(cut(value, self.start, self.stop) for value in rows)

    @property
    def examples(self) -> int:
        """The number of rows in the window."""
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """The sum of the weights of the rows in the window; without weights their number."""
        return self.examples if self.weights is None else math.fsum(self.weights[self.start : self.stop])

    @property
    def done(self) -> bool:
        """Whether every row of the loader batch has been used."""
        return self.count is not None and self.start >= self.count
