"""Derives from the one sample that a user would write the others, on which faults hide.

A row of a table is a name, the class of fault of whoever fails on it alone, and the change of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .sample import Sample

_LEAVES = 3
"""Leaves that get the special values, each by itself."""

Row = tuple[str, str, Callable[[Tensor], Tensor]]


def _some_zeros(x: Tensor) -> Tensor:
    changed = x.clone().reshape(-1)
    changed[::3] = 0
    return changed.view(x.shape)


def _near_ties(step: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x.round() + step * torch.arange(x.numel(), dtype=x.dtype, device=x.device).view(x.shape)


def _one(value: float) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        changed = x.clone().reshape(-1)
        changed[: min(1, x.numel())] = value
        return changed.view(x.shape)

    return change


VALUES: tuple[Row, ...] = (
    ("negative", "untaken-branch", lambda x: -x.abs()),
    ("positive", "untaken-branch", torch.abs),
    ("x30", "untaken-branch", lambda x: 30 * x),
    ("some zeros", "zero-values", _some_zeros),
    ("tied", "tied-values", torch.round),
    ("all zero", "zero-values", torch.zeros_like),
    ("all equal", "tied-values", lambda x: torch.full_like(x, 0.5)),
    ("nearly tied", "mask-by-closeness", _near_ties(1e-4)),
    ("nearly tied, 1e-7", "mask-by-closeness", _near_ties(1e-7)),
    ("x0.01", "untaken-branch", lambda x: x * 0.01),
    ("x1e-30", "untaken-branch", lambda x: x * 1e-30),
    ("x3", "untaken-branch", lambda x: x * 3),
    ("+-800", "untaken-branch", lambda x: 800 * x.sign()),
    ("x1e4", "untaken-branch", lambda x: 1e4 * x),
    ("+1e4", "cancellation", lambda x: x + 1e4),
    ("one infinity", "overflow-nan", _one(torch.inf)),
    ("one NaN", "overflow-nan", _one(torch.nan)),
)
_QUICK = 6


def derived(given: Sample, module: torch.nn.Module | None, quick: bool) -> Iterator[Sample]:
    """Every other sample; the reference decides which of them count."""
    inputs = [name for name in given.leaves if name in given.inputs] or list(given.leaves)
    rows = VALUES[:_QUICK] if quick else VALUES
    for name, fault, change in rows:
        for leaf in inputs[: 1 if quick else _LEAVES]:
            yield given.changed(f"{name} {leaf}", fault, lambda _, x, f=change: f(x), (leaf,))
    if module is not None and not quick:
        yield replace(given, name="other mode", fault="untaken-branch", training=not module.training)
