"""When two results are the same: structure exactly, numbers to rounding.

Numbers are compared norm-wise: an error is measured against the largest number of its tensor, because an
elementwise tolerance both hides faults among large numbers and sees faults in rounding among small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FLOOR = torch.finfo(torch.float64).eps
"""What is drawn is of order one; sums that cancel leave the rounding of that, however small they are."""


@dataclass(frozen=True)
class Comparison:
    """How results are compared.

    Numbers may differ by ``ulps`` units of rounding ``eps`` (by default the dtype's) of the largest number,
    and by as many of ``floor``; ``strides`` says whether strides must be equal.
    """

    ulps: float = 64
    eps: float | None = None
    floor: float = FLOOR
    strides: bool = False

    def differences(self, seen: Any, expected: Any, path: str = "") -> Iterator[str]:
        """Every difference, with its place in the structure."""
        if isinstance(seen, Tensor) and isinstance(expected, Tensor):
            difference = self.tensor_difference(seen, expected)
            if difference:
                yield f"{path or 'output'} {difference}"
        elif isinstance(expected, dict) and isinstance(seen, dict) and seen.keys() == expected.keys():
            for key, value in expected.items():
                yield from self.differences(seen[key], value, f"{path}.{key}".lstrip("."))
        elif _is_sequence(expected) and _is_sequence(seen) and len(seen) == len(expected):
            for i, value in enumerate(expected):
                yield from self.differences(seen[i], value, f"{path}[{i}]")
        elif type(seen) is not type(expected) or isinstance(seen, tuple | list | dict) or seen != expected:
            yield f"{path or 'outcome'} is {seen!r}, expected {expected!r}"

    def tensor_difference(self, seen: Tensor, expected: Tensor) -> str | None:
        """How two tensors differ, if they do."""
        facts = (tensor_facts(seen, self.strides), tensor_facts(expected, self.strides))
        if facts[0] != facts[1]:
            return f"is {facts[0]}, expected {facts[1]}"
        # most results are the same to the bit
        if torch.equal(seen, expected):
            return None
        error, bound = farthest(seen, expected), self.bound(expected)
        return None if error <= bound else off(seen, expected, bound)

    def bound(self, expected: Tensor) -> float:
        """How far a right result may be from ``expected``."""
        if not (expected.is_floating_point() or expected.is_complex()):
            return 0.0
        eps = torch.finfo(expected.dtype).eps if self.eps is None else self.eps
        return self.ulps * max(eps * size(expected), self.floor)


TO_ROUNDING = Comparison()
WITH_STRIDES = Comparison(strides=True)


def equal(seen: Any, expected: Any, title: str, how: Comparison = TO_ROUNDING) -> None:
    """Fails with every difference between two structures of tensors and plain values."""
    found = list(how.differences(seen, expected))
    if found:
        raise AssertionError(f"{title}: " + "; ".join(found))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, tuple | list)


def tensor_facts(tensor: Tensor, strides: bool) -> str:
    """Shape, dtype, device; and the strides of the dimensions in which there is a step to take."""
    text = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device.type}"
    if not strides or not tensor.numel():
        return text
    # the stride of a dimension of length one is never taken, and torch's own operators differ in it
    steps = [step if length > 1 else 0 for step, length in zip(tensor.stride(), tensor.shape, strict=True)]
    return f"{text} with strides {steps}"


def farthest(seen: Tensor, expected: Tensor) -> float:
    """The largest distance between two elements; infinite between a NaN and a number."""
    return distances(seen, expected).max().item() if seen.numel() else 0.0


def distances(seen: Tensor, expected: Tensor) -> Tensor:
    """The distance of each element from the one expected."""
    wide = torch.complex128 if seen.is_complex() else torch.float64
    a, b = (x.detach().to(wide) for x in (seen, expected))
    # the difference of two infinities is NaN, of two NaN too: equal ones have no distance
    same = (a == b) | (a.isnan() & b.isnan())
    return torch.where(same, 0.0, (a - b).abs().nan_to_num(torch.inf))


def off(seen: Tensor, expected: Tensor, bound: float) -> str:
    """By how much the two differ, where most, and the bound that this breaks."""
    apart = distances(seen, expected)
    place = tuple(map(int, torch.unravel_index(apart.argmax(), apart.shape)))
    numbers = f"{seen[place].item()}, expected {expected[place].item()}"
    return f"is off by {apart[place].item():.3g} at {place}, bound {bound:.3g}: {numbers}"


def size(tensor: Tensor) -> float:
    """The largest absolute value among the finite elements, 0 if there is none."""
    sizes = tensor.detach().abs().nan_to_num(nan=0.0, posinf=0.0)
    return sizes.max().item() if sizes.numel() else 0.0
