"""Derives from the one sample that a user would write the others, on which faults hide.

A row of a table is a name, the class of fault of whoever fails on it alone, and the change of a tensor. The
reference decides which samples count: what it refuses is no sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from .sample import Layout, Sample

_LEAVES = 3
"""Leaves that get the special values, each by itself."""
_MANY = 24
"""Leaves beyond which a call is expensive, and only the first input gets them."""
_GRID = 64
"""Points between -8 and 8."""
_IGNORED = -100
"""torch's default for ``ignore_index``."""

Row = tuple[str, str, Callable[[Tensor], Tensor]]


def _some_zeros(x: Tensor) -> Tensor:
    return torch.where(_ordinals(x) % 3 == 0, 0.0, x)


def _one_zero(x: Tensor) -> Tensor:
    return torch.where(_ordinals(x) == 0, 0.0, x)


def _near_ties(step: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x.round() + 0.25 + step * _ordinals(x)


def _one(value: float) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.where(_ordinals(x) == 0, value, x)


def _ordinals(x: Tensor) -> Tensor:
    return torch.arange(x.numel(), dtype=x.dtype, device=x.device).view(x.shape)


QUICK_VALUES: tuple[Row, ...] = (
    ("negative", "untaken-branch", lambda x: -x.abs()),
    ("positive", "untaken-branch", torch.abs),
    ("some zeros", "zero-values", _some_zeros),
    ("tied", "tied-values", torch.round),
    ("+800", "untaken-branch", lambda x: 800 + x),
    ("-800", "untaken-branch", lambda x: -800 + x),
)
VALUES: tuple[Row, ...] = (
    ("one zero", "zero-values", _one_zero),
    ("all zero", "zero-values", torch.zeros_like),
    ("all equal", "tied-values", lambda x: torch.full_like(x, 0.5)),
    ("nearly tied", "mask-by-closeness", _near_ties(1e-4)),
    ("nearly tied, 1e-7", "mask-by-closeness", _near_ties(1e-7)),
    ("x0.01", "untaken-branch", lambda x: x * 0.01),
    ("x3", "untaken-branch", lambda x: x * 3),
    ("x30", "untaken-branch", lambda x: 30 * x),
    ("about +40", "untaken-branch", lambda x: 40 + x / 1000),
    ("about -40", "untaken-branch", lambda x: -40 + x / 1000),
    ("+-800", "untaken-branch", lambda x: 800 * x.sign()),
    ("x1e4", "untaken-branch", lambda x: 1e4 * x),
    ("+1e4", "cancellation", lambda x: x + 1e4),
    ("x1e-30", "untaken-branch", lambda x: x * 1e-30),
    ("x1e200", "untaken-branch", lambda x: x * 1e200),
    ("x1e-200", "untaken-branch", lambda x: x * 1e-200),
    ("one infinity", "overflow-nan", _one(torch.inf)),
    ("one NaN", "overflow-nan", _one(torch.nan)),
)


def derived(given: Sample, module: torch.nn.Module | None, quick: bool) -> Iterator[Sample]:
    """Every other sample."""
    yield from _layouts(given)
    if not all(x.numel() for x in given.tensors.values()):
        return
    yield from _sizes(given)
    leaves = 1 if quick or len(given.leaves) > _MANY else _LEAVES
    yield from _values(given, QUICK_VALUES, leaves)
    yield from _indices(given, module)
    if quick:
        return
    yield from _values(given, VALUES, leaves)
    yield from _grids(given)
    yield from _ties_between(given)
    if module is not None:
        yield replace(given, name="other mode", fault="untaken-branch", training=not module.training)
        yield from _values(replace(given, leaves=_parameters(given)), QUICK_VALUES[:1], _LEAVES)


def resized(sample: Sample, size: int, to: int) -> Sample:
    """Every axis of length ``size`` gets length ``to``: cut, or filled up with what comes first."""

    def change(_: str, x: Tensor) -> Tensor:
        for axis, length in enumerate(x.shape):
            if length == size:
                x = x.index_select(axis, torch.arange(to, device=x.device) % size)
        return x

    return sample.changed(sample.name, sample.fault, change, sample.tensors)


def rows(given: Sample, to: int, name: str, fault: str) -> Sample:
    """The first axis of the first input, and of those that share its length, gets length ``to``."""
    length = next((x.shape[0] for x in given.inputs.values() if x.dim()), 0)

    def change(_: str, x: Tensor) -> Tensor:
        if not x.dim() or x.shape[0] != length:
            return x
        return x.index_select(0, torch.arange(to, device=x.device) % max(length, 1))

    return given.changed(name, fault, change, given.inputs)


def _values(given: Sample, rows: tuple[Row, ...], leaves: int) -> Iterator[Sample]:
    names = [name for name in given.leaves if name in given.inputs] or list(given.leaves)
    names = [name for name in names if given.tensors[name].is_floating_point()]
    for name, fault, change in rows:
        for leaf in names[:leaves]:
            yield given.changed(f"{name} {leaf}", fault, lambda _, x, f=change: f(x), (leaf,))


def _parameters(given: Sample) -> tuple[str, ...]:
    return tuple(name for name in given.leaves if name not in given.inputs)


def _grids(given: Sample) -> Iterator[Sample]:
    """Every interval about zero, on more rows if the given ones do not suffice."""
    first = next(iter(given.inputs.values()))
    length = first.shape[0] if first.dim() else 1
    many = rows(given, -(-_GRID * length // first.numel()), "", "")
    for sample in (given, many):
        for leaf in [name for name in given.leaves if name in given.inputs][:_LEAVES]:
            yield sample.changed(f"grid {leaf}", "untaken-branch", _grid, (leaf,))


def _grid(_: str, x: Tensor) -> Tensor:
    step = 16 / max(x.numel() - 1, 1)
    return (_ordinals(x) * step - 8) if x.is_floating_point() else x


def _ties_between(given: Sample) -> Iterator[Sample]:
    names = [name for name in given.leaves if name in given.inputs]
    for a, b in pairwise(names):
        if given.tensors[a].shape == given.tensors[b].shape:
            same = given.tensors[a]
            yield given.changed(f"{b} equal to {a}", "tied-values", lambda _, x, s=same: s.clone(), (b,))


def _layouts(given: Sample) -> Iterator[Sample]:
    rows: list[tuple[str, str, Layout]] = [
        ("sliced", "strided-input", _sliced),
        ("transposed in memory", "strided-input", _transposed),
    ]
    if any(x.dim() in (4, 5) for x in given.inputs.values()):
        rows.append(("channels_last", "channels-last", _channels_last))
    for name, fault, layout in rows:
        yield replace(given, name=name, fault=fault, layout=layout)


def _sliced(x: Tensor) -> Tensor:
    return torch.stack([x, x], -1)[..., 0]


def _transposed(x: Tensor) -> Tensor:
    reverse = tuple(reversed(range(x.dim())))
    return x.permute(reverse).contiguous().permute(reverse)


def _channels_last(x: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()]) if x.dim() in formats else x


def _sizes(given: Sample) -> Iterator[Sample]:
    first = next((x for x in given.inputs.values() if x.dim()), None)
    if first is not None:
        yield rows(given, 1, "batch of one", "batch-of-one")
        yield rows(given, 0, "empty", "empty-input")
        yield rows(given, first.shape[0] + 1, "one row more", "transposed-gradient")
    yield given.changed("0-dim", "zero-dim-input", _scalar, given.inputs)
    yield given.changed("extra dimension", "extra-dimension", _twofold, given.inputs)
    if len(given.inputs) > 1:
        only = tuple(given.inputs)[:1]
        yield given.changed(f"extra dimension of {only[0]}", "extra-dimension", _twofold, only)


def _scalar(_: str, x: Tensor) -> Tensor:
    return x.reshape(-1)[0] if x.numel() else x


def _twofold(_: str, x: Tensor) -> Tensor:
    return torch.stack([x, x.flip(0) if x.dim() else x])


def _indices(given: Sample, module: torch.nn.Module | None) -> Iterator[Sample]:
    """Duplicate, masked and all masked indices; masks of one value."""
    for name, x in given.inputs.items():
        if x.dtype == torch.bool:
            for value in (True, False):
                changed = torch.full_like(x, value)
                yield given.changed(f"all {value} {name}", "all-masked", lambda *_, c=changed: c, (name,))
        # on an accelerator an index that the target refuses would end all work of the process there
        elif not (x.is_floating_point() or x.is_complex()) and x.numel() and x.device.type == "cpu":
            yield from _special(given, name, x, module)


def _special(given: Sample, name: str, x: Tensor, module: torch.nn.Module | None) -> Iterator[Sample]:
    first = x.reshape(-1)[0].item()
    yield given.changed(f"duplicates in {name}", "duplicate-indices", lambda *_: x * 0 + int(first), (name,))
    constants = [c for c in given.constants() if isinstance(c, int) and not isinstance(c, bool)]
    own = [getattr(module, key, None) for key in ("padding_idx", "ignore_index")]
    for value in dict.fromkeys([*constants, *filter(None, own), 0, _IGNORED]):
        half = torch.where(_ordinals(x) % 2 == 0, value, x)
        whole = torch.full_like(x, value)
        yield given.changed(f"{name} partly {value}", "masked-index", lambda *_, c=half: c, (name,))
        yield given.changed(f"{name} all {value}", "all-masked", lambda *_, c=whole: c, (name,))
