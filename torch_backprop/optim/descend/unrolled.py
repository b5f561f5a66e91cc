r"""One example at a time by Inductor: a stretch of examples unrolled into one graph, on CUDA or the CPU.

    alive_i = alive_{i-1} and i < n and cost_i is finite
    theta_i = alive_i ? step(theta_{i-1}, x_i, t_i, eta_i) : theta_{i-1}

so that a stretch may have fewer examples than the graph, and ends before one whose cost is not finite,
without anybody looking at a number in between. Examples are arguments of their own, not slices of one tensor:
their steps are then the same kernels, and a long graph takes little longer to compile than a short one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from torch_backprop.optim.descend.built import Built
from torch_backprop.optim.descend.settings import Refused, allow
from torch_backprop.optim.descend.step_graph import StepGraph

STEPS = 16
"""Examples of a graph."""


class Unrolled(Built):
    """Descends by stretches that Inductor has compiled; see `Built`. Inductor keeps them on disk too."""

    name = "unrolled"
    stretch = 1024
    building = 30.0
    author = "Inductor"

    @classmethod
    def check_device(cls, tensors: list[Tensor]) -> None:
        """Refuse tensors on several devices, and one that is neither CUDA nor a CPU."""
        devices = {each.device for each in tensors}
        allow(len(devices) == 1, "all tensors are on one device")
        allow(devices.pop().type in ("cpu", "cuda"), "it is for tensors on the CPU or on CUDA")

    def _build(self, step: StepGraph, x: Tensor, t: Tensor) -> None:
        def stretch(left: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            state, rest = tensors[: len(step.state)], tensors[len(step.state) :]
            fixed, rest = rest[: len(step.fixed)], rest[len(step.fixed) :]
            finite, costs = left > 0, []
            rows = zip(*(rest[place * STEPS :][:STEPS] for place in range(3)), strict=True)
            for place, (x, t, rates) in enumerate(rows):
                cost, *new = step.module(*state, *fixed, x, t, *rates.unbind())
                finite = finite & cost.isfinite()
                alive = finite & (left > place)
                state = [torch.where(alive, *pair) for pair in zip(new, state, strict=True)]
                costs.append(cost.double())
            return finite, torch.stack(costs), *state

        rates = torch.zeros(step.groups, dtype=torch.float64, device=x.device)
        left = torch.tensor(STEPS, device=x.device)
        held = [each.detach() for each in (*step.state, *step.fixed)]
        # Copies, for a graph knows its arguments by their identity.
        rows = [each.clone() for each in (x, t, rates) for _ in range(STEPS)]
        given: list[Any] = [left, *held, *rows]
        # Whatever goes wrong in a compiler, another path can be taken.
        try:
            graph = make_fx(stretch, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
            self.function: Any = torch._inductor.compile(graph, given)
        except Exception as error:
            words = (str(error).splitlines() or [""])[0]
            raise Refused(f"Inductor cannot compile it ({type(error).__name__}: {words})") from error

    @torch.no_grad()
    def _run(self, state: list[Tensor], inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        count, device = len(inputs), inputs.device
        new, fixed = [each.detach().clone() for each in state], [each.detach() for each in self.fixed]
        rows = [each.contiguous().split(1) for each in (inputs, targets)] + [rates.to(device).unbind()]
        lefts = torch.arange(count, 0, -STEPS, device=device).unbind()
        costs, finite = [], torch.tensor(True, device=device)
        for start, left in zip(range(0, count, STEPS), lefts, strict=True):
            part = [each[min(at, count - 1)] for each in rows for at in range(start, start + STEPS)]
            # An index that is out of range stops all of a stretch: another path says so in torch's words.
            try:
                finite, cost, *after = self.function(left * finite, *new, *fixed, *part)
            except (RuntimeError, IndexError):
                break
            # Into the same memory, whose strides the code is made for.
            _copy(new, after)
            costs.append(cost)
        _copy(state, new)
        found = torch.cat(costs)[:count] if costs else rates.new_empty(0)
        return found[: int(found.isfinite().long().cumprod(0).sum())]


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
