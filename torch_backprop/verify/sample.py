"""A sample: the arguments of one call, from which fresh calls are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Change = Callable[[str, Tensor], Tensor]
Layout = Callable[[Tensor], Tensor]
GIVEN, CUT = "as given", ", cut down"
"""The name of the sample from which the others are derived; and the end of that of one made smaller."""
TINY = 1e-6
"""Inputs below this are small on purpose, and rounding is measured against them alone."""


class Call(NamedTuple):
    """Arguments that nobody else holds: inputs, a module's state, and those that need a gradient."""

    args: tuple[Any, ...]
    state: dict[str, Tensor]
    leaves: dict[str, Tensor]


def as_it_is(tensor: Tensor) -> Tensor:
    """The layout of the tensor itself."""
    return tensor


@dataclass(frozen=True)
class Sample:
    """Tensors by name (inputs by position, a module's state by its own names), and what surrounds them.

    Attributes:
        name: what is special about it.
        fault: the class of fault of a candidate that fails on this sample alone.
        tensors: every tensor handed to the target.
        leaves: the names of those that need a gradient.
        frame: the positional arguments, flat, with places where the tensors stand.
        tree: how ``frame`` folds into arguments.
        layout: applied to every tensor of a fresh call.
        training: the mode of a module; None: as it was given.
    """

    name: str
    fault: str
    tensors: Mapping[str, Tensor]
    leaves: tuple[str, ...]
    frame: tuple[Any, ...]
    tree: Any
    layout: Layout = as_it_is
    training: bool | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The tensors among the arguments."""
        return {name: x for name, x in self.tensors.items() if _is_input(name)}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first leaf."""
        return self.tensors[self.leaves[0]].dtype

    @property
    def device(self) -> torch.device:
        """The device of the first leaf."""
        return self.tensors[self.leaves[0]].device

    @property
    def finite(self) -> bool:
        """Whether no number is infinite or not a number."""
        return all(bool(x.isfinite().all()) for x in self.tensors.values())

    @property
    def tiny(self) -> bool:
        """Whether a leaf is small on purpose, and not all zero."""
        sizes = [float(self.tensors[name].abs().max()) for name in self.leaves if self.tensors[name].numel()]
        return any(0 < size < TINY for size in sizes)

    def constants(self) -> list[Any]:
        """The arguments that are no tensors."""
        return [item for item in self.frame if not isinstance(item, _Place)]

    def words(self) -> list[str]:
        """The arguments as a script would name them, in order."""
        return [item.name if isinstance(item, _Place) else repr(item) for item in self.frame]

    def changed(self, name: str, fault: str, change: Change, only: Iterable[str] | None = None) -> Sample:
        """The sample with ``change(name, tensor)`` for the tensors named (default: the leaves)."""
        names = set(self.leaves if only is None else only)
        tensors = {key: change(key, x) if key in names else x for key, x in self.tensors.items()}
        return replace(self, name=name, fault=fault, tensors=tensors)

    def to(self, dtype: torch.dtype) -> Sample:
        """Floating-point tensors in ``dtype``, complex ones in the complex dtype of its precision."""
        cast = {name: x.to(_like(dtype, x)) for name, x in self.tensors.items()}
        return replace(self, tensors=cast)

    def fresh(self, needs: Iterable[str] | None = None, spare: bool = False) -> Call:
        """Copies for one call; ``needs``: the leaves that need a gradient (default: all).

        ``spare`` hands over copies of the leaves, which may be written into; leaves may not.
        """
        chosen = set(self.leaves if needs is None else needs)
        tensors = {name: self.layout(x.detach().clone()) for name, x in self.tensors.items()}
        leaves = {name: tensors[name].requires_grad_() for name in self.leaves if name in chosen}
        return self._call(tensors, leaves, spare)

    def holding(self, values: Iterable[Tensor], spare: bool = False) -> Call:
        """A call with ``values`` in place of the leaves."""
        leaves = dict(zip(self.leaves, values, strict=True))
        others = {name: x.clone() for name, x in self.tensors.items() if name not in leaves}
        return self._call(others | leaves, leaves, spare)

    def shared(self, a: str, b: str) -> Call:
        """A call in which ``b`` is the very tensor ``a``."""
        tensors = {name: x.detach().clone() for name, x in self.tensors.items()}
        tensors[b] = tensors[a].requires_grad_()
        return self._call(tensors, {a: tensors[a]}, spare=False)

    def _call(self, tensors: dict[str, Tensor], leaves: dict[str, Tensor], spare: bool) -> Call:
        given = {name: tensors[name].clone() if spare else tensors[name] for name in self.tensors}
        flat = [given[item.name] if isinstance(item, _Place) else item for item in self.frame]
        state = {name: x for name, x in given.items() if not _is_input(name)}
        return Call(tuple(pytree.tree_unflatten(flat, self.tree)), state, leaves)

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {describe(x)}" for name, x in self.inputs.items())
        return f"{self.name}: {shapes}"


class _Place(NamedTuple):
    """Where a tensor stands among the arguments."""

    name: str


def describe(tensor: Tensor) -> str:
    """Shape and dtype in a few letters."""
    shape = "x".join(map(str, tensor.shape)) or "0-dim"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def given(inputs: tuple[Any, ...], module: torch.nn.Module | None) -> Sample:
    """The sample that the user gave, in float64.

    The leaves are the tensors that require a gradient, or all floating-point tensors if none does.

    Raises:
        ValueError: no tensor among the inputs and parameters can have a gradient.
    """
    flat, tree = pytree.tree_flatten(tuple(inputs))
    frame = tuple(_Place(f"input{i}") if isinstance(x, Tensor) else x for i, x in enumerate(flat))
    tensors = {f"input{i}": x for i, x in enumerate(flat) if isinstance(x, Tensor)}
    able = [name for name, x in tensors.items() if _is_real(x) or x.is_complex()]
    able = [name for name in able if tensors[name].requires_grad] or able
    if module is not None:
        able += [name for name, x in module.named_parameters() if x.requires_grad]
        tensors |= {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if not able:
        raise ValueError("inputs: none can have a gradient; pass at least one floating-point tensor")
    sample = Sample(GIVEN, "wrong-gradient", tensors, tuple(able), frame, tree)
    return replace(sample, tensors={name: x.detach() for name, x in tensors.items()})


def _is_input(name: str) -> bool:
    return name.startswith("input") and name[5:].isdigit()


def _like(dtype: torch.dtype, tensor: Tensor) -> torch.dtype:
    if tensor.is_complex():
        return dtype.to_complex()
    return dtype if tensor.is_floating_point() else tensor.dtype


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()
