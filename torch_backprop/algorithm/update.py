"""Update while going back: each parameter moves as soon as its gradient is known, which is then freed.

What was computed from a parameter lies after it on the tape, so that when its gradient is known nothing that
is still to come back needs its old number. The update has to be one of each parameter by its own gradient:
gradient descent, with momentum and the like, and the optimizers of ``torch.optim`` that step in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from torch_backprop.algorithm.arguments import examples

Update = Callable[[str, Tensor], None]


@contextmanager
def updating(
    optimizer: torch.optim.Optimizer | None,
    parameters: Mapping[str, Tensor],
    gradients: dict[str, Tensor],
    inputs: Any,
) -> Iterator[Update]:
    """What is done with each gradient: it is kept in ``gradients``, or moves its parameter."""
    if optimizer is None:
        yield gradients.__setitem__
        return
    one_by_one: Any = getattr(optimizer, "one_by_one", None)
    with one_by_one(examples(inputs)) if one_by_one else _stepping(optimizer) as move:
        yield lambda name, gradient: move(parameters[name], gradient)


def check_update(optimizer: torch.optim.Optimizer) -> None:
    """Refuses an optimizer that needs all gradients at once.

    Raises:
        ValueError: it does.
    """
    ours: Any = getattr(optimizer, "check_one_by_one", None)
    name, why = type(optimizer).__name__, ""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if ours:
        ours()
    elif closure is not None and closure.default is inspect.Parameter.empty:
        why = "its step evaluates the cost again"
    elif optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        why = "its step hooks expect all gradients"
    if why:
        raise ValueError(f"update={name} cannot move one parameter at a time: {why}. Call without update.")


@contextmanager
def _stepping(optimizer: torch.optim.Optimizer) -> Iterator[Callable[[Tensor, Tensor], None]]:
    """Steps of an optimizer of torch that has for the moment no other parameter."""
    whole = optimizer.param_groups
    group_of = {p: group for group in whole for p in group["params"]}

    def move(parameter: Tensor, gradient: Tensor) -> None:
        kept, parameter.grad = parameter.grad, gradient
        optimizer.param_groups = [{**group_of[parameter], "params": [parameter]}]
        try:
            optimizer.step()
        finally:
            parameter.grad = kept

    try:
        yield move
    finally:
        optimizer.param_groups = whole
