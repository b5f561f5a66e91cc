"""Ordinary operations of tensors, as PyTorch dispatches them: recorded with the pullbacks of the table.

What writes in place is computed out of place, with its pullback, and copied; then values are made what they
are: a write into a view is a write into what it is a view of, and the other views of that are read anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _python_dispatch as modes

from torch_backprop.algorithm.aliasing import reading, writing
from torch_backprop.algorithm.operators import CONSTANT, TABLE
from torch_backprop.algorithm.record import Value, is_differentiable, operation
from torch_backprop.algorithm.refusal import refuse_foreign_function, unsupported

aten = torch.ops.aten

FILLS = {
    aten.copy_.default: aten.copy.default,
    aten.fill_.Scalar: aten.fill.Scalar,
    aten.fill_.Tensor: aten.fill.Tensor,
    **dict.fromkeys((aten.zero_.default, aten.uniform_.default, aten.normal_.default), aten.zero.default),
    **dict.fromkeys((aten.bernoulli_.float, aten.bernoulli_.Tensor), aten.zero.default),
}
"""Writes that keep nothing of what they overwrite, so that no copy is needed."""


class Interception(modes.TorchDispatchMode):
    """Has PyTorch do every operation, and the tape record those on what is watched."""

    def __init__(self, tape: Any) -> None:
        super().__init__()
        # no cycle: what a pass that fails has kept is freed with its tape, not when garbage is collected
        self.tape = weakref.proxy(tape)
        self._passes = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, operations are not seen: those of a rule are the rule's own."""
        innermost = modes._get_current_dispatch_mode() is self
        if innermost:
            modes._pop_mode()
        self._passes = True
        try:
            yield
        finally:
            self._passes = False
            if innermost:
                modes._push_mode(self)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``func``, and records it if the cost can depend on it."""
        kwargs = kwargs or {}
        leaves = () if self._passes else tuple(_leaves(args))
        values = [self.tape.value(leaf) if isinstance(leaf, Tensor) else None for leaf in leaves]
        named = () if self._passes else tuple(x for x in kwargs.values() if isinstance(x, Tensor))
        if any(self.tape.value(x) is not None for x in named):
            raise unsupported(func, " for a tensor given by keyword")
        if not any(values):
            return func(*args, **kwargs)
        # within the model's own no_grad, or in the forward pass of an autograd.Function
        if not torch.is_grad_enabled():
            refuse_foreign_function()
            return self._constant(func, func(*args, **kwargs), args)
        if func in CONSTANT:
            return self._constant(func, func(*args, **kwargs), args)
        if func._schema.is_mutable:
            return self._write(func, values, args, kwargs)
        if func not in TABLE:
            return self._without_row(func, args, kwargs)
        output = func(*args, **kwargs)
        # nothing was computed, as by contiguous()
        if output is args[0]:
            return output
        value = self._record(func, values, output, args, kwargs)
        for y, v in zip(_tensors(output), value, strict=True):
            if is_differentiable(y):
                self.tape.assign(y, v, args[0] if func.is_view else None)
        return output

    def _constant(self, func: Any, output: Any, args: Any) -> Any:
        # a view remembers of what, lest it be taken for one that has to be read anew
        for y in _tensors(output) if func.is_view else ():
            self.tape.assign(y, None, args[0])
        return output

    def _without_row(self, func: Any, args: Any, kwargs: Any) -> Any:
        # in inference mode what is made of several operators is not seen as these; prim's are no operators
        if func.namespace != "prim":
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        if any(is_differentiable(y) for y in _tensors(output)):
            raise unsupported(func)
        return output

    def _record(
        self, func: Any, values: Sequence[Value | None], output: Any, args: Any, kwargs: Any
    ) -> tuple[Value, ...]:
        inputs, pullbacks = _differentiated(func, values, output, args, kwargs)
        outputs = tuple(map(Value.of, _tensors(output)))
        self.tape.record(operation(str(func), inputs, outputs, pullbacks))
        return outputs

    def _write(self, func: Any, values: list[Value | None], args: Any, kwargs: Any) -> Any:
        target, fill = args[0], FILLS.get(func)
        functional = fill or _functional(func)
        if functional not in TABLE or func._schema.arguments[0].alias_info is None:
            raise unsupported(func, " that writes in place")
        if torch.Tag.inplace_view in func.tags:
            return self._reshape(func, functional, values, args)
        if not fill:
            # what a pullback keeps must not be what is written into
            args = (target.clone(), *args[1:])
        output = target if fill else functional(*args, **kwargs)
        (value,) = self._record(functional, values, output, args, kwargs)
        func(*args, **kwargs) if fill else target.copy_(output)
        if output.dtype != target.dtype:
            (value,) = self._record(aten._to_copy.default, [value], target, (output,), {})
        self.tape.write(target, value)
        return target

    def _reshape(self, func: Any, functional: Any, values: list[Value | None], args: Any) -> Any:
        """Makes a tensor another view of its memory, in place: no number is written."""
        target = args[0]
        inputs, pullbacks = _differentiated(functional, values, target, args, {})
        func(*args)
        value = Value.of(target)
        self.tape.record(operation(str(func), inputs, (value,), pullbacks))
        self.tape.assign(target, value, target._base)
        return target

    def reread(self, x: Tensor, root: Tensor, whole: Value) -> Value:
        """Records that the view ``x`` reads from what was written into ``root``."""
        value = Value.of(x)
        self.tape.record(operation("read", (whole,), (value,), (reading(x, root),)))
        self.tape.assign(x, value, root)
        return value

    def write_through(self, x: Tensor, value: Value, root: Tensor, whole: Value | None) -> None:
        """Records that ``root`` has ``value`` where ``x`` is a view of it."""
        written = Value.of(root)
        inputs, pullbacks = (whole, value), writing(x, root)
        if whole is None:
            inputs, pullbacks = inputs[1:], pullbacks[1:]
        self.tape.record(operation("write", inputs, (written,), pullbacks))
        self.tape.assign(root, written)


def _differentiated(
    func: Any, values: Sequence[Value | None], output: Any, args: Any, kwargs: Any
) -> tuple[list[Value], list[Callable[..., Tensor]]]:
    """The values that have a cotangent through ``func``, and the pullbacks of its row for them."""
    pullbacks = TABLE[func](output, *args, **kwargs)
    wanted = [(value, i) for i, value in enumerate(values) if value is not None]
    if any(i >= len(pullbacks) or pullbacks[i] is None for _, i in wanted):
        raise unsupported(func, " for one of its arguments")
    return [value for value, _ in wanted], [pullbacks[i] for _, i in wanted]


def _leaves(args: Any) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, (list, tuple)):
            yield from arg
        else:
            yield arg


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [y for y in output if isinstance(y, Tensor)] if isinstance(output, (list, tuple)) else []


def _functional(func: Any) -> Any:
    """The operator that computes what ``func`` writes in place."""
    packet = getattr(aten, func.overloadpacket.__name__.removesuffix("_"), None)
    return getattr(packet, func._overloadname, None)
