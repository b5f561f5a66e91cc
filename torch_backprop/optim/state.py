"""The open group in a state dict, and the refusal of states that belong elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from torch_backprop.optim.open_group import OpenGroup


def pack_open_group(group: OpenGroup, parameters: list[Tensor]) -> dict[str, Any]:
    """Return `group` as numbers and tensors, its sums by the index of their parameter."""
    # Indices, numbers and tensors only: torch.load(weights_only=True) accepts nothing else.
    sums = {index: group.sums[key] for index, key in enumerate(parameters) if key in group.sums}
    return {"sums": sums, "weight": group.weight, "cost": group.cost, "examples": group.examples}


def unpack_open_group(packed: Mapping[str, Any], parameters: list[Tensor]) -> OpenGroup:
    """Return a group with the sums in `packed`, on the devices of their parameters."""
    sums = {parameters[index]: total.to(parameters[index].device) for index, total in packed["sums"].items()}
    return OpenGroup(sums, packed["weight"], packed["cost"], packed["examples"])


def refuse_foreign_state(
    state: Mapping[str, Any], identity: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> None:
    """Check that `state` fits an optimizer of this identity (variant, batch size) and parameter groups.

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
    _refuse_groups(state["param_groups"], groups)
    parameters = [parameter for group in groups for parameter in group["params"]]
    # Compared here since torch would load them, and fail at the next update.
    for index, entry in state["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor) and value.dim():
                _refuse_shape(f"['state'][{index}][{key!r}]", value, parameters[index])
    for index, total in state["descent"]["sums"].items():
        _refuse_shape(f"['descent']['sums'][{index}]", total, parameters[index])


def _refuse_groups(saved: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> None:
    if len(saved) != len(groups):
        raise ValueError(
            f"state_dict['param_groups'] has {len(saved)} groups, and this optimizer {len(groups)}."
        )
    for index, (theirs, ours) in enumerate(zip(saved, groups, strict=True)):
        found, expected = len(theirs["params"]), len(ours["params"])
        if found != expected:
            raise ValueError(
                f"state_dict['param_groups'][{index}]['params'] has {found} parameters, and this optimizer's"
                f" group {expected}."
            )


def _refuse_shape(place: str, value: Tensor, parameter: Tensor) -> None:
    if value.shape != parameter.shape:
        found = f"state_dict{place} has shape {tuple(value.shape)}"
        raise ValueError(f"{found}, and the parameter has {tuple(parameter.shape)}.")
