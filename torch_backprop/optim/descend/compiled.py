"""One example at a time with a compiler: a stretch of examples is one call of compiled code."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from torch_backprop.optim.descend.loops import ALIGNMENT, Unknown, compiler, load, write
from torch_backprop.optim.descend.settings import Refused, allow, check_modules, check_settings
from torch_backprop.optim.descend.step_graph import StepGraph, trace_step

if TYPE_CHECKING:
    from torch_backprop.optim.descent import Descent

PROOF = 4
"""Examples by which compiled code is held to PyTorch's."""
PLAIN = (bool, int, float, str, tuple, type(None))
# By model, for a step is of no use when its model is gone.
_steps: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, tuple[Compiled | Refused, Any]]] = (
    weakref.WeakKeyDictionary()
)


class Compiled:
    """Descends over one example after the other by a step that was traced and compiled.

    Args:
        optimizer: whose settings the updates follow.
        model: any module that a graph can hold.
        loss: a module or function of output and targets.
        inputs, targets: rows of the examples, of which the shapes and dtypes count.

    Raises:
        Refused: if something in the step cannot be compiled.
    """

    name = "compiled"
    # Seconds: a guess before the first step is built, which then tells.
    building = 6.0
    author = "the C compiler"

    def __init__(
        self, optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor
    ) -> None:
        x, t = inputs[:1].contiguous(), targets[:1].contiguous()
        step = trace_step(optimizer, model, loss, x, t)
        self.state, self.fixed = step.state, step.fixed
        self._build(step, x, t)
        self._prove(step, inputs[:PROOF], targets[:PROOF])

    @classmethod
    def check_device(cls, tensors: list[Tensor]) -> None:
        """Refuse without a compiler, and tensors that are elsewhere.

        Raises:
            Refused: with the reason.
        """
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

    def run(self, inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """Descend over some examples at their rates.

        Returns:
            The cost of each example before its update, up to the first that the step cannot do: one whose
            cost is not finite, or that has an index which is out of range.
        """
        costs = self._run(self.state, inputs, targets, rates)
        # Written behind autograd's back, which has to know.
        increment_version(self.state)
        return costs

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

    @torch.no_grad()
    def _prove(self, step: StepGraph, inputs: Tensor, targets: Tensor) -> None:
        """Hold the code to what PyTorch makes of the same graph, for compilers have faults too.

        Raises:
            Refused: if they differ by more than rounding.
        """
        rates = torch.full((len(inputs), step.groups), 0.1, dtype=torch.float64)
        found = [each.clone() for each in self.state]
        costs = self._run(found, inputs, targets, rates)
        expected: list[Tensor] = [each.detach() for each in self.state]
        for example, cost in enumerate(costs):
            row = slice(example, example + 1)
            true, *expected = step.module(*expected, *step.fixed, inputs[row], targets[row], *rates[example])
            allow(_agree(cost, true), f"{self.author}'s code computes another cost than PyTorch")
        same = all(map(_agree, found, expected))
        allow(same, f"{self.author}'s code computes another update than PyTorch")


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are the same up to rounding, of which a sum of many terms has much."""
    tolerance = torch.finfo(expected.dtype).eps * 2**10
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    return torch.allclose(found.to(expected.dtype), expected, 0, scale * tolerance, equal_nan=True)


def key(
    kind: type[Compiled], optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor
) -> Hashable:
    """Return what a step of this kind depends on: options of modules, settings, shapes and tensors.

    Raises:
        Refused: if it can be seen without tracing that there can be none.
    """
    check(kind, optimizer, model, loss, inputs, targets)
    rows = tuple((each.shape[1:], each.dtype) for each in (inputs, targets))
    names = ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
    settings = tuple(
        (tuple(map(id, group["params"])), *(group[name] for name in names))
        for group in optimizer.param_groups
    )
    tensors = tuple(
        (id(each), each.dtype, each.stride(), each.requires_grad) for each in _tensors(model, loss)
    )
    momenta = tuple(
        id(optimizer.state.get(theta, {}).get("momentum_buffer")) for theta in optimizer._parameters()
    )
    return kind, rows, settings, optimizer.max_norm, tensors, _options(model), _options(loss), momenta


def known(model: nn.Module, key: Hashable) -> Compiled | None:
    """Return the compiled step that there is already.

    Raises:
        Refused: if it was tried, and there can be none.
    """
    found, _ = _steps.get(model, {}).get(key, (None, None))
    if isinstance(found, Refused):
        raise found
    return found


def keep(model: nn.Module, key: Hashable, loss: Any, step: Compiled | Refused) -> None:
    """Remember a compiled step, or that there can be none, as long as there is the model."""
    # With the loss, since the key knows it by its id.
    _steps.setdefault(model, {})[key] = step, loss


def check(
    kind: type[Compiled], optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor
) -> None:
    """Refuse what can be seen without tracing.

    Raises:
        Refused: with the reason.
    """
    check_settings(optimizer, momentum=True)
    check_modules(model, loss)
    tensors = [*_tensors(model, loss), inputs, targets]
    kind.check_device(tensors)
    allow(all(type(each) in (Tensor, nn.Parameter) for each in tensors), "it is for plain tensors")
    owned = {theta for theta in optimizer._parameters() if theta.requires_grad}
    allow(owned <= set(tensors), "a parameter that learns belongs to neither the model nor the loss")
    places = [each.untyped_storage().data_ptr() for each in owned]
    allow(len(set(places)) == len(places), "no two parameters share their memory")


def _pointers(tensors: list[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _tensors(*parts: Any) -> Iterator[Tensor]:
    for part in parts:
        if isinstance(part, nn.Module):
            yield from part.parameters()
            yield from part.buffers()


def _options(part: Any) -> Hashable:
    if not isinstance(part, nn.Module):
        return id(part)
    return tuple(
        (id(module), *((name, value) for name, value in vars(module).items() if isinstance(value, PLAIN)))
        for module in part.modules()
    )
