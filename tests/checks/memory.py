"""The bytes held for the backward pass: never more than the built-in holds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.spec import Case, LayerSpec

from .gradients import nodes_of
from .trial import Trial, subsets, trials


def memory(spec: LayerSpec, case: Case) -> None:
    """For every subset of the leaves that need a gradient."""
    names = tuple(trials(spec, case)[0].leaves)
    for subset in subsets(names):
        ours, builtin = trials(spec, case, corrected={})
        held, allowed = bytes_held(ours, subset), bytes_held(builtin, subset)
        assert held <= allowed, f"{ours.title}: holds {held} bytes for {subset}, the built-in {allowed}"


def bytes_held(trial: Trial, needs: tuple[str, ...]) -> int:
    """Bytes of the storages saved for the backward pass, without those of the parameters."""
    saved: list[Tensor] = []
    trial.need(needs)

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = trial.call()
    # a tensor kept on the context itself escapes the hooks
    for node in nodes_of(output):
        saved += [x for x in pytree.tree_leaves(getattr(node, "__dict__", {})) if isinstance(x, Tensor)]
    # two views of one storage hold it once, and a parameter is alive whoever holds it
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved}
    for parameter in trial.module.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(storages.values())
