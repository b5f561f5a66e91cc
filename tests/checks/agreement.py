"""What it means that a layer and its built-in agree: the same outcome of the same probe.

Numbers agree norm-wise: an error is measured against the largest number of its tensor, because an
elementwise tolerance both hides faults among large numbers and sees faults in rounding among small ones.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .trial import Trial

K = 16
"""Units of rounding of the largest number by which two right results may differ."""
FLOOR = torch.finfo(torch.float64).eps
"""What is drawn is of order one; sums that cancel leave the rounding of that, however small they are."""

Probe = Callable[[Trial], Any]


@dataclass(frozen=True)
class Raised:
    """An outcome: the probe ended with this error."""

    kind: type[Exception]
    words: str


@dataclass(frozen=True)
class Rounding:
    """The unit of rounding, by default that of each tensor's dtype, and what is too small to compare."""

    eps: float | None = None
    floor: float = FLOOR

    def bound(self, expected: Tensor, dtype: torch.dtype) -> float:
        """How far a right result may be from ``expected``."""
        eps = torch.finfo(dtype).eps if self.eps is None else self.eps
        return K * max(eps * size(expected), self.floor)


EXACT = Rounding()


def agree(
    probe: Probe,
    ours: Trial,
    builtin: Trial,
    name: str,
    may_raise: bool = False,
    rounding: Rounding = EXACT,
    strides: bool = False,
) -> None:
    """Fails unless the probe's outcome on the layer is its outcome on the built-in.

    Args:
        probe: maps a trial to tensors, tuples, lists, dicts and plain values.
        ours: the layer's trial.
        builtin: the built-in's trial.
        name: what was probed, for the message.
        may_raise: whether the built-in may raise; then the layer must raise the same.
        rounding: by how much numbers may differ.
        strides: whether the tensors' strides must be equal too.
    """
    expected, known = outcome(probe, builtin, may_raise)
    seen, warned = outcome(probe, ours, True)
    equal(seen, expected, f"{ours.title}: {name}", rounding, strides)
    # torch says some things once a process, to the built-in, which runs first
    if not warned <= known:
        raise AssertionError(f"{ours.title}: {name}: warns {warned - known}, the built-in does not")


def outcome(probe: Probe, trial: Trial, may_raise: bool = False) -> tuple[Any, set[str]]:
    """What the probe returned or raised, and the warnings that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = probe(trial)
        except (RuntimeError, ValueError, IndexError) as error:
            if not may_raise:
                raise
            result = Raised(type(error), str(error))
    # which operator has no batching rule of its own is torch's affair
    return result, {re.sub(r"aten::\w+", "aten::*", str(warning.message)) for warning in caught}


def equal(
    seen: Any,
    expected: Any,
    title: str,
    rounding: Rounding = EXACT,
    strides: bool = False,
) -> None:
    """Fails with every difference between the two structures."""
    found = list(differences(seen, expected, "", rounding, strides))
    if found:
        raise AssertionError(f"{title}: " + "; ".join(found))


def differences(seen: Any, expected: Any, path: str, rounding: Rounding, strides: bool) -> Iterator[str]:
    if isinstance(seen, Tensor) and isinstance(expected, Tensor):
        difference = tensor_difference(seen, expected, rounding, strides)
        if difference:
            yield f"{path or 'output'} {difference}"
    elif isinstance(expected, dict) and isinstance(seen, dict) and seen.keys() == expected.keys():
        for key, value in expected.items():
            yield from differences(seen[key], value, f"{path}.{key}".lstrip("."), rounding, strides)
    elif isinstance(expected, tuple | list) and type(seen) is type(expected) and len(seen) == len(expected):
        for i, value in enumerate(expected):
            yield from differences(seen[i], value, f"{path}[{i}]", rounding, strides)
    elif type(seen) is not type(expected) or seen != expected:
        yield f"{path or 'outcome'} is {seen!r}, expected {expected!r}"


def tensor_difference(seen: Tensor, expected: Tensor, rounding: Rounding, strides: bool) -> str | None:
    facts = (tensor_facts(seen, strides), tensor_facts(expected, strides))
    if facts[0] != facts[1]:
        return f"is {facts[0]}, expected {facts[1]}"
    if seen.is_meta:
        return None
    if not (expected.is_floating_point() or expected.is_complex()):
        return None if torch.equal(seen, expected) else f"is {seen.tolist()}, expected {expected.tolist()}"
    wide = torch.complex128 if expected.is_complex() else torch.float64
    seen, wanted = seen.detach().to(wide), expected.detach().to(wide)
    # elements that are not finite must be the same; what is left is compared as numbers
    odd = ~(seen.isfinite() & wanted.isfinite())
    error = size(torch.where(odd, 0, seen - wanted))
    bound = rounding.bound(torch.where(odd, 0, wanted), expected.dtype)
    if error <= bound and torch.allclose(seen[odd], wanted[odd], rtol=0, atol=0, equal_nan=True):
        return None
    return f"is off by {error:.3g}, bound {bound:.3g}: {seen.tolist()}, expected {wanted.tolist()}"


def tensor_facts(tensor: Tensor, strides: bool) -> str:
    """Shape, dtype, device; and the strides of the dimensions in which there is a step to take."""
    text = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device.type}"
    if not strides or not tensor.numel():
        return text
    steps = [step if length > 1 else 0 for step, length in zip(tensor.stride(), tensor.shape, strict=True)]
    return f"{text} with strides {steps}"


def size(tensor: Tensor) -> float:
    """The largest absolute value, 0 if there is none."""
    return tensor.abs().max().item() if tensor.numel() else 0.0
