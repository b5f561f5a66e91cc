"""What the fast paths may do: the settings of an optimizer that they know, and those they leave alone."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_backprop.optim.descent import Descent
from torch_backprop.optim.exactness import couples_or_draws
from torch_backprop.optim.processes import place


class Refused(ValueError):
    """A path cannot make this descent; the message is the reason, to follow "because"."""


def allow(allowed: bool, reason: str) -> None:
    """Refuse the path unless `allowed`.

    Raises:
        Refused: with the reason.
    """
    if not allowed:
        raise Refused(reason)


@dataclass(frozen=True)
class Setting:
    """How one parameter is updated.

    Attributes:
        group: the number of its parameter group, whose rate it takes from the rates of all groups.
        weight_decay: lambda.
        sign: -1 if it descends, 1 if it ascends.
    """

    group: int
    weight_decay: float
    sign: int

    def steps(self, rates: Tensor) -> Iterator[float]:
        """Yield for each row of `rates` what the gradient is multiplied by."""
        return iter((self.sign * rates[:, self.group]).tolist())

    def shrinks(self, rates: Tensor) -> Iterator[float]:
        """Yield for each row of `rates` what the parameter is multiplied by before, if it decays."""
        return iter((1 - self.weight_decay * rates[:, self.group]).tolist() if self.weight_decay else ())


Settings = dict[Tensor, Setting]


def learning(optimizer: Descent) -> Settings:
    """Return the setting of each parameter that learns."""
    return {
        theta: Setting(index, float(group["weight_decay"]), 1 if group["maximize"] else -1)
        for index, group in enumerate(optimizer.param_groups)
        for theta in group["params"]
        if theta.requires_grad
    }


def check_settings(optimizer: Descent, *, momentum: bool = False) -> None:
    """Refuse settings whose state after a stretch of examples a fast path does not know.

    Args:
        optimizer: which has the settings.
        momentum: whether the path knows momentum and max_norm.

    Raises:
        Refused: with the reason.
    """
    allow(optimizer.group_size == 1, "it makes one update per example")
    moving = any(group["momentum"] for group in optimizer.param_groups)
    decays = any(group["weight_decay"] for group in optimizer.param_groups)
    adaptive = getattr(optimizer, "converged", None) is not None
    allow(momentum or not moving, "it has no momentum")
    allow(momentum or optimizer.max_norm is None, "it forms no gradient whose norm max_norm could bound")
    allow(not getattr(optimizer, "average", 0), "it does not average the iterates")
    allow(getattr(optimizer, "_reduction", None) is None, "it has no variance reduction")
    allow(
        not (adaptive and decays), 'it knows no penalty, as schedule="adaptive" with weight_decay would need'
    )
    allow(not _hooked(optimizer), "it would not call the hooks on updates and steps")
    allow(place()[1] == 1, "it is for one process")


def check_rows(*rows: Any) -> None:
    """Refuse inputs and targets that are several tensors.

    Raises:
        Refused: with the reason.
    """
    allow(all(isinstance(each, Tensor) for each in rows), "inputs are one tensor, and targets another")


def check_modules(*parts: Any) -> None:
    """Refuse modules that do more than their forward, or other than a function of one row.

    Raises:
        Refused: with the reason.
    """
    for part in (part for part in parts if isinstance(part, nn.Module)):
        for name, module in part.named_modules():
            where = f"{name or 'the model'} ({type(module).__name__})"
            allow(not couples_or_draws(module), f"it couples no rows and draws no numbers, as {where} does")
            allow(not _hooks_of(module), f"it would not call the hooks of {where}")
        for name, theta in part.named_parameters():
            hooked = theta._backward_hooks or theta._post_accumulate_grad_hooks
            allow(not hooked, f"it would not call the hooks of parameter {name}")
    allow(
        not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda"), "it has no autocast"
    )
    allow(not nn.modules.module._has_any_global_hook(), "it would not call the global hooks of modules")


def _hooked(optimizer: Descent) -> bool:
    names = ("_update_hooks", "_update_pre_hooks", "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return any(getattr(optimizer, name, None) for name in names)


def _hooks_of(module: nn.Module) -> bool:
    hooks = (value for name, value in vars(module).items() if name.endswith(("forward_hooks", "_pre_hooks")))
    return any(isinstance(value, OrderedDict) and value for value in hooks) or bool(module._backward_hooks)


def rates(optimizer: Descent, count: int) -> Tensor:
    """Return the rates of the parameter groups for the next `count` updates, of shape (count, groups).

    Schedules and functions are asked as for the updates themselves, and nothing is changed.
    """
    groups, updates = optimizer.param_groups, optimizer.updates
    before = [group["lr"] for group in groups]
    if not (optimizer.scheduled or any(optimizer._rates)):
        return torch.tensor([[float(lr) for lr in before]], dtype=torch.float64).repeat(count, 1)
    table = []
    try:
        for _ in range(count):
            optimizer._set_rates()
            table.append([float(group["lr"]) for group in groups])
            optimizer.updates += 1
    finally:
        optimizer.updates = updates
        for group, lr in zip(groups, before, strict=True):
            group["lr"] = lr
    return torch.tensor(table, dtype=torch.float64)
