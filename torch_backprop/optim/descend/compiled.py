"""One example at a time with a compiler: a stretch of examples is one call of compiled code."""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from torch_backprop.optim.descend.loops import ALIGNMENT, Unknown, compiler, load, write
from torch_backprop.optim.descend.settings import Refused, allow, check_modules, check_settings
from torch_backprop.optim.descend.step_graph import trace_step

if TYPE_CHECKING:
    from torch_backprop.optim.descent import Descent

PLAIN = (bool, int, float, str, tuple, type(None))
# By model, for a step is of no use when its model is gone.
_steps: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Compiled]] = weakref.WeakKeyDictionary()


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

    def __init__(
        self, optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor
    ) -> None:
        x, t = inputs[:1].contiguous(), targets[:1].contiguous()
        step = trace_step(optimizer, model, loss, x, t)
        groups = len(optimizer.param_groups)
        try:
            source = write(step.graph, step.state, step.fixed, step.constants, x, t, groups)
        except Unknown as error:
            raise Refused(f"it has no translation of {error}") from error
        self.state, self.fixed = step.state, [*step.fixed, *source.read]
        self.function = load(source.text)
        self.scratch = torch.empty(source.scratch + ALIGNMENT, dtype=torch.uint8)
        # Kept, since the cache knows it by its id.
        self.loss = loss

    def run(self, inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """Descend over some examples at their rates.

        Returns:
            The cost of each example before its update, up to the first that the step cannot do: one whose
            cost is not finite, or that has an index which is out of range.
        """
        inputs, targets, costs = inputs.contiguous(), targets.contiguous(), rates.new_empty(len(rates))
        tensors = (inputs, targets, rates.contiguous(), costs)
        begin = -self.scratch.data_ptr() % ALIGNMENT
        done = self.function(
            len(inputs),
            _pointers(self.state),
            _pointers(self.fixed),
            *(tensor.data_ptr() for tensor in tensors),
            self.scratch.data_ptr() + begin,
        )
        # Written behind autograd's back, which has to know.
        increment_version(self.state)
        return costs[:done]


def compiled(optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor) -> Compiled:
    """Return the compiled step, a new one if there is none for this model, these shapes and settings.

    Raises:
        Refused: if there can be none.
    """
    check(optimizer, model, loss, inputs, targets)
    key, steps = _key(optimizer, model, loss, inputs, targets), _steps.setdefault(model, {})
    if key not in steps:
        steps[key] = Compiled(optimizer, model, loss, inputs, targets)
    return steps[key]


def is_compiled(optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor) -> bool:
    """Whether there is a compiled step already."""
    return _key(optimizer, model, loss, inputs, targets) in _steps.get(model, {})


def check(optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor) -> None:
    """Refuse what can be seen without tracing.

    Raises:
        Refused: with the reason.
    """
    check_settings(optimizer, momentum=True)
    check_modules(model, loss)
    allow(compiler() is not None, "it needs a C compiler, and found none: install one, or set CC to its path")
    tensors = [*_tensors(model, loss), inputs, targets]
    allow(all(each.device.type == "cpu" for each in tensors), "it is for tensors on the CPU")
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


def _key(optimizer: Descent, model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor) -> Hashable:
    """What the step depends on: options of modules, settings, and the tensors that it was made for."""
    rows = tuple((each.shape[1:], each.dtype) for each in (inputs, targets))
    names = ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
    settings = tuple(
        (tuple(map(id, group["params"])), *(group[name] for name in names))
        for group in optimizer.param_groups
    )
    tensors = tuple(
        (id(each), each.dtype, each.stride(), each.requires_grad) for each in _tensors(model, loss)
    )
    options = tuple(_options(part) for part in (model, loss))
    momenta = tuple(
        id(optimizer.state.get(theta, {}).get("momentum_buffer")) for theta in optimizer._parameters()
    )
    return rows, settings, optimizer.max_norm, tensors, options, momenta


def _options(part: Any) -> Hashable:
    if not isinstance(part, nn.Module):
        return id(part)
    return tuple(
        (id(module), *((name, value) for name, value in vars(module).items() if isinstance(value, PLAIN)))
        for module in part.modules()
    )
