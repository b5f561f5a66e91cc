"""The open group in a state dict, and the refusal of states that belong elsewhere."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from torch_backprop.optim.open_group import OpenGroup


def pack_open_group(group: OpenGroup, parameters: list[Tensor]) -> dict[str, Any]:
    """Return `group` as numbers and tensors, its sums by the index of their parameter."""
    # Indices, numbers and tensors only: torch.load(weights_only=True) accepts nothing else.
    sums = {index: group.sums[key] for index, key in enumerate(parameters) if key in group.sums}
    return {"sums": sums, "weight": group.weight, "examples": group.examples}


def unpack_open_group(packed: Mapping[str, Any], parameters: list[Tensor]) -> OpenGroup:
    """Return a group with copies of the sums in `packed`, on the devices of their parameters."""
    sums = {
        parameters[index]: total.to(parameters[index].device, copy=True)
        for index, total in packed["sums"].items()
    }
    return OpenGroup(sums, packed["weight"], packed["examples"])


def refuse_foreign_state(
    state: Mapping[str, Any], identity: Mapping[str, Any], parameters: list[Tensor]
) -> None:
    """Check that `state` fits an optimizer of this identity (variant, batch size) over `parameters`.

    Raises:
        ValueError: naming the key at fault.
    """
    if "descent" not in state:
        raise ValueError("state_dict has no key 'descent': it was not saved by one of these optimizers.")
    for key, value in identity.items():
        found = state["descent"].get(key)
        if found != value:
            raise ValueError(
                f"state_dict['descent'][{key!r}] is {found!r}, and this optimizer's is {value!r}."
            )
    saved = sum(len(group["params"]) for group in state["param_groups"])
    if saved != len(parameters):
        raise ValueError(
            f"state_dict['param_groups'] has {saved} parameters, and this optimizer {len(parameters)}."
        )
    # Compared here since torch would load them, and fail at the next update.
    buffers = {index: entry.get("momentum_buffer") for index, entry in state["state"].items()}
    _refuse_shapes("['state'][{}]['momentum_buffer']", buffers, parameters)
    _refuse_shapes("['descent']['sums'][{}]", state["descent"]["sums"], parameters)


def _refuse_shapes(place: str, tensors: Mapping[int, Tensor | None], parameters: list[Tensor]) -> None:
    for index, tensor in tensors.items():
        shape = parameters[index].shape
        if tensor is not None and tensor.shape != shape:
            found = f"state_dict{place.format(index)} has shape {tuple(tensor.shape)}"
            raise ValueError(f"{found}, and the parameter has {tuple(shape)}.")
