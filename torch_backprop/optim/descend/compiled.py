"""One example at a time with a C compiler: a stretch of examples is one call of compiled loops."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from torch_backprop.optim.descend.built import Built
from torch_backprop.optim.descend.loops import ALIGNMENT, Unknown, compiler, load, write
from torch_backprop.optim.descend.settings import Refused, allow
from torch_backprop.optim.descend.step_graph import StepGraph


class Compiled(Built):
    """Descends by a step that was written as loops in C; see `Built`."""

    name = "compiled"
    stretch = 4096
    building = 6.0
    author = "the C compiler"

    @classmethod
    def check_device(cls, tensors: list[Tensor]) -> None:
        """Refuse without a compiler, and tensors that are elsewhere than on the CPU."""
        found = compiler() is not None
        allow(found, "it needs a C compiler, and found none: install one, or set CC to its path")
        allow(all(each.device.type == "cpu" for each in tensors), "it is for tensors on the CPU")

    def _build(self, step: StepGraph, x: Tensor, t: Tensor) -> None:
        try:
            source = write(step.module.graph, step.state, step.fixed, step.constants, x, t, step.groups)
        except Unknown as error:
            raise Refused(f"it has no translation of {error}") from error
        try:
            self.function = load(source.text)
        except (OSError, RuntimeError) as error:
            raise Refused(f"it needs a C compiler that works ({error})") from error
        self.fixed = [*step.fixed, *source.read]
        self.scratch = torch.empty(source.scratch + ALIGNMENT, dtype=torch.uint8)

    def _run(self, state: list[Tensor], inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        costs = rates.new_empty(len(rates))
        tensors = (inputs.contiguous(), targets.contiguous(), rates.contiguous(), costs)
        begin = -self.scratch.data_ptr() % ALIGNMENT
        done = self.function(
            len(inputs),
            _pointers(state),
            _pointers(self.fixed),
            *(tensor.data_ptr() for tensor in tensors),
            self.scratch.data_ptr() + begin,
        )
        return costs[:done]


def _pointers(tensors: list[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
