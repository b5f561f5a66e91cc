r"""The mean of the iterates. Polyak & Juditsky (1992), SIAM J. Control Optim. 30, 838-855; Ruppert (1988).

theta_bar <- theta_bar + (theta_t - theta_bar) / (t - t_0 + 1)        t = t_0, t_0 + 1, ...
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def average_in(parameters: Iterable[Tensor], state: dict[Tensor, dict[str, Any]], count: int) -> None:
    """Update each parameter's ``state["average"]``, a mean of `count` iterates with the present one."""
    for theta in parameters:
        kept = state[theta]
        # A parameter may join later than the others, with a group of its own.
        if count == 1 or "average" not in kept:
            kept["average"] = theta.detach().clone()
        else:
            kept["average"].add_(theta - kept["average"], alpha=1 / count)


@torch.no_grad()
def swap(parameters: Iterable[Tensor], state: dict[Tensor, dict[str, Any]]) -> None:
    """Exchange each parameter's value and its average."""
    for theta in parameters:
        if "average" in state[theta]:
            # By value: optimizer, model and checkpoints go on holding the tensors that they hold.
            value = theta.clone()
            theta.copy_(state[theta]["average"])
            state[theta]["average"].copy_(value)
