"""What a forward pass holds for the backward pass."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.graph import below


def held_bytes(call: Callable[[], Any], alive: Iterable[Tensor] = ()) -> int:
    """Bytes of the storages that a forward pass saves for its backward pass.

    Args:
        call: the forward pass; its output is what is differentiated.
        alive: tensors that live whoever holds them, as parameters do: they do not count.
    """
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = call()
    # a tensor kept on the context itself escapes the hooks
    for node in nodes_of(output):
        saved += [x for x in pytree.tree_leaves(getattr(node, "__dict__", {})) if isinstance(x, Tensor)]
    # two views of one storage hold it once
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved}
    for tensor in alive:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def nodes_of(output: Any) -> list[Any]:
    """Every node of the graph behind an output."""
    return list(below(y.grad_fn for y in pytree.tree_leaves(output) if isinstance(y, Tensor)))
