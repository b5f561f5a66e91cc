"""Watches backward passes at work, before the engine repairs what they return."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils import _pytree as pytree

from torch_backprop.graph import below


@dataclass
class Pass:
    """One call of a hand-written backward: the node, what it was given, what it returned.

    ``written`` names what it wrote into: ``"grad_output"``, ``"saved tensor"``.
    """

    node: Any
    received: tuple[Any, ...]
    returned: tuple[Any, ...]
    written: tuple[str, ...]

    def unneeded(self) -> list[int]:
        """Positions of gradients computed though nobody needs them; one that cost nothing does not count."""
        memory = [address(g) for g in self.received if isinstance(g, Tensor)]
        return [
            i
            for i, (gradient, need) in enumerate(zip(self.returned, self.node.needs_input_grad, strict=False))
            if isinstance(gradient, Tensor) and not need and address(gradient) not in memory
        ]

    def repaired(self) -> Iterator[tuple[int, Tensor, Any]]:
        """Position, gradient as returned, and the metadata of the input that it belongs to."""
        edges = [function for function, _ in self.node.next_functions if function is not None]
        needed = [i for i, need in enumerate(self.node.needs_input_grad) if need]
        slots = [slot for _, slot in self.node.next_functions if _ is not None]
        for i, function, slot in zip(needed, edges, slots, strict=False):
            gradient = self.returned[i] if i < len(self.returned) else None
            if isinstance(gradient, Tensor):
                yield i, gradient, function._input_metadata[slot]


@contextlib.contextmanager
def watching(writes: bool = False) -> Iterator[list[Pass]]:
    """Within, every call of a hand-written backward is noted; ``writes``: and what it writes into."""
    seen: list[Pass] = []
    original = BackwardCFunction.apply

    def apply(node: Any, *cotangents: Any) -> Any:
        watched = {"grad_output": cotangents, "saved tensor": _saved(node)} if writes else {}
        before = {name: _copies(tensors) for name, tensors in watched.items()}
        returned = original(node, *cotangents)
        written = tuple(name for name, tensors in watched.items() if not _same(before[name], tensors))
        as_tuple = returned if isinstance(returned, tuple) else (returned,)
        seen.append(Pass(node, cotangents, as_tuple, written))
        return returned

    BackwardCFunction.apply = apply  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield seen
    finally:
        BackwardCFunction.apply = original


def nodes(outputs: tuple[Tensor, ...]) -> Iterator[Any]:
    """The nodes of hand-written Functions in the graph of the outputs."""
    yield from (node for node in graph(outputs) if hasattr(node, "_forward_cls"))


def graph(outputs: tuple[Tensor, ...]) -> Iterator[Any]:
    """All nodes of the graph of the outputs."""
    return below(y.grad_fn for y in outputs)


def tensors_on(node: Any) -> dict[str, list[Tensor]]:
    """The tensors that a node keeps as attributes, by attribute."""
    found = {name: pytree.tree_leaves(value) for name, value in vars(node).items()}
    kept = {name: [x for x in leaves if isinstance(x, Tensor)] for name, leaves in found.items()}
    return {name: tensors for name, tensors in kept.items() if tensors}


def address(tensor: Tensor) -> int:
    """Where a tensor's memory begins; 0 if it has none."""
    return tensor.untyped_storage().data_ptr() if tensor.numel() else 0


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit, not-a-number included."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _saved(node: Any) -> tuple[Any, ...]:
    try:
        return node.saved_tensors
    except RuntimeError:  # changed in place since: the backward itself will raise
        return ()


def _copies(tensors: tuple[Any, ...]) -> list[Tensor]:
    with torch.no_grad():
        return [x.detach().clone() for x in tensors if isinstance(x, Tensor)]


def _same(before: list[Tensor], tensors: tuple[Any, ...]) -> bool:
    after = [x.detach() for x in tensors if isinstance(x, Tensor)]
    return all(same_numbers(a, b) for a, b in zip(before, after, strict=True))
