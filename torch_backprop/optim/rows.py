"""The rows of one loader batch: counting, cutting and weighing them.

Rows are tensors whose first dimension runs over examples, alone or nested in tuples, lists and mappings.
"""

import math
from collections.abc import Callable, Iterator, Mapping
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
    # Most rows are plain tensors, and this is done in every step.
    if isinstance(rows, tuple) and all(isinstance(value, Tensor) and value.dim() for value in rows):
        counts = {value.shape[0] for value in rows}
        if len(counts) == 1:
            return counts.pop()
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
    return _each(rows, lambda tensor: tensor[start:stop])


def moved(rows: Any, device: torch.device) -> Any:
    """Return the rows on `device`, nested as in `rows`; mappings become dicts."""
    return _each(rows, lambda tensor: tensor.to(device))


def _each(rows: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(rows, Tensor):
        return function(rows)
    if isinstance(rows, Mapping):
        return {key: _each(value, function) for key, value in rows.items()}
    # A namedtuple, unlike a tuple, takes its fields one by one.
    parts = [_each(value, function) for value in rows]
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
