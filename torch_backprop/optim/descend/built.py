"""Paths whose step is built first: traced, compiled, held to PyTorch's, and kept as long as its model."""

from __future__ import annotations

import time
import weakref
from abc import abstractmethod
from collections.abc import Hashable

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from torch_backprop.algorithm import arguments
from torch_backprop.optim.descend.key import key, tensors_of
from torch_backprop.optim.descend.path import Pass, Stretches
from torch_backprop.optim.descend.settings import Refused, allow, check_modules, check_rows, check_settings
from torch_backprop.optim.descend.step_graph import StepGraph, trace_step
from torch_backprop.optim.descent import Descent

PROOF = 4
"""Examples by which compiled code is held to PyTorch's."""
# By model, for a step is of no use when its model is gone; instead of one the reason why there is none.
_steps: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Built | str]] = weakref.WeakKeyDictionary()


class Built(Stretches):
    """Descends over one example after the other by a step that was traced and compiled.

    Attributes:
        building: the seconds that the last one took to build; a guess before the first.
        author: who compiles.
        state: the parameters that learn, and their momenta.
        fixed: what else the step reads.

    Raises:
        Refused: if something in the step cannot be compiled.
    """

    built = True
    building: float
    author: str

    def __init__(self, course: Pass) -> None:
        inputs, targets = course.inputs, course.targets
        x, t = inputs[:1].contiguous(), targets[:1].contiguous()
        step = trace_step(course.optimizer, course.model, course.loss, x, t)
        self.state, self.fixed = step.state, step.fixed
        first = _cost(course, x, t)
        self._build(step, x, t)
        self._prove(step, inputs[:PROOF], targets[:PROOF], first)

    @classmethod
    def open(cls, course: Pass) -> Built | None:
        """Return the step that there is already, or build it where that repays itself."""
        # A momentum begins with its first gradient, and no graph is made for that alone.
        if not _has_momenta(course.optimizer):
            allow(not course.done, "it goes on with momenta, and what the cost does not depend on has none")
            return None
        if cls not in course.keys:
            cls._check(course)
            course.keys[cls] = cls, key(course)
        own, steps = course.keys[cls], _steps.setdefault(course.model, {})
        if own not in steps:
            if not (course.asked or course.repays(cls.building)):
                return None
            steps[own] = cls._try(course)
        step = steps[own]
        if isinstance(step, str):
            raise Refused(step)
        return step

    def run(self, inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """Descend; see `Stretches.run`."""
        state = [each.detach() for each in self.state]
        before = [each.clone() for each in state]
        try:
            costs = self._run(self.state, inputs, targets, rates)
            # Written behind autograd's back, which has to know.
            increment_version(self.state)
        # An interruption is raised when compiled code returns, and what that has done would count as undone.
        except BaseException:
            for each, value in zip(state, before, strict=True):
                each.copy_(value)
            raise
        return costs

    @classmethod
    @abstractmethod
    def check_device(cls, tensors: list[Tensor]) -> None:
        """Refuse tensors where they are.

        Raises:
            Refused: with the reason.
        """

    @abstractmethod
    def _build(self, step: StepGraph, x: Tensor, t: Tensor) -> None: ...

    @abstractmethod
    def _run(self, state: list[Tensor], inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor: ...

    @classmethod
    def _try(cls, course: Pass) -> Built | str:
        begun = time.perf_counter()
        try:
            step = cls(course)
        # Only its words are kept, for its frames would keep the model.
        except Refused as reason:
            return str(reason)
        cls.building = time.perf_counter() - begun
        return step

    @torch.no_grad()
    def _prove(self, step: StepGraph, inputs: Tensor, targets: Tensor, first: Tensor) -> None:
        """Hold the graph to the cost of the first example, and the code to what PyTorch makes of the graph.

        Raises:
            Refused: if they differ by more than rounding.
        """
        rates = torch.full((len(inputs), step.groups), 0.1, dtype=torch.float64)
        found = [each.clone() for each in self.state]
        costs = self._run(found, inputs, targets, rates)
        expected: list[Tensor] = [each.detach() for each in self.state]
        for example, cost in enumerate(costs):
            row = slice(example, example + 1)
            given = (*expected, *step.fixed, inputs[row], targets[row], *rates[example])
            true, *expected = step.module(*given)
            allow(example > 0 or _agree(true, first), "its trace computes another cost than the model")
            allow(_agree(cost, true), f"{self.author}'s code computes another cost than PyTorch")
        same = all(map(_agree, found, expected))
        allow(same, f"{self.author}'s code computes another update than PyTorch")

    @classmethod
    def _check(cls, course: Pass) -> None:
        check_rows(course.inputs, course.targets)
        check_settings(course.optimizer, momentum=True)
        check_modules(course.model, course.loss)
        tensors = [*tensors_of(course.model, course.loss), course.inputs, course.targets]
        cls.check_device(tensors)
        allow(all(type(each) in (Tensor, nn.Parameter) for each in tensors), "it is for plain tensors")
        owned = {theta for theta in course.optimizer._parameters() if theta.requires_grad}
        allow(owned <= set(tensors), "a parameter that learns belongs to neither the model nor the loss")
        places = [each.untyped_storage().data_ptr() for each in owned]
        allow(len(set(places)) == len(places), "no two parameters share their memory")


@torch.no_grad()
def _cost(course: Pass, x: Tensor, t: Tensor) -> Tensor:
    """Return the cost of an example, for a trace lets pass what numbers do not, such as classes in int32.

    Raises:
        Refused: if they are.
    """
    try:
        return course.loss(course.model(x), t)
    except RuntimeError as error:
        arguments.refuse_integers(x, error)
        raise Refused(f"PyTorch cannot compute the cost ({error})") from error


def _has_momenta(optimizer: Descent) -> bool:
    return all(
        "momentum_buffer" in optimizer.state.get(theta, {})
        for group in optimizer.param_groups
        for theta in group["params"]
        if group["momentum"] and theta.requires_grad
    )


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are the same up to rounding, of which a sum of many terms has much."""
    tolerance = torch.finfo(expected.dtype).eps * 2**10
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    return torch.allclose(found.to(expected.dtype), expected, 0, scale * tolerance, equal_nan=True)
