"""A step that fails leaves everything as it was before."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor


class Transaction(AbstractContextManager):
    """Puts parameters, state and counters back if its block raises after they were saved; to be used again.

    Args:
        optimizer: whose parameters, state and learning rates to save.
        progress: tells the rest of its state; `resume` puts that back.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        progress: Callable[[], dict[str, Any]],
        resume: Callable[[dict[str, Any]], None],
    ) -> None:
        self.optimizer, self.progress, self.resume = optimizer, progress, resume
        self.parameters: dict[Tensor, Tensor] = {}
        self.saved = False

    def __enter__(self) -> "Transaction":
        self.saved = False
        return self

    @torch.no_grad()
    def save(self) -> None:
        """Save everything; copies every parameter and its state."""
        groups = self.optimizer.param_groups
        for theta in (theta for group in groups for theta in group["params"]):
            # Into the same memory each time: fresh pages cost more than the copy.
            kept = self.parameters.get(theta)
            if kept is None or _kind(kept) != _kind(theta):
                self.parameters[theta] = theta.clone()
            else:
                kept.copy_(theta)
        self.state = {theta: _copy(state) for theta, state in self.optimizer.state.items()}
        self.rates = [deepcopy(group["lr"]) for group in groups]
        self.counters = deepcopy(self.progress())
        self.saved = True

    @torch.no_grad()
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.saved:
            for theta, value in self.parameters.items():
                theta.copy_(value)
            self.optimizer.state.clear()
            self.optimizer.state.update(self.state)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate
            self.resume(self.counters)
        # The parameters' copies stay for the next time; those of the state are made anew.
        self.state = {}


def _kind(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.device


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
