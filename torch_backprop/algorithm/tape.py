"""The tape: one record per operation, with what it computed, its residuals and its pullback.

The pullback of y = f(x) takes the cotangent of y, dL/dy, to that of x, dL/dx = dL/dy dy/dx. Read from its end
to its beginning, with the cotangents of what was used several times summed, the tape is the backward pass.
Rules of this package record themselves by their own formulas; ordinary operations of tensors by those of
:mod:`torch_backprop.algorithm.operators`, as PyTorch dispatches them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from torch_backprop.algorithm.context import Context
from torch_backprop.algorithm.interception import Interception
from torch_backprop.algorithm.record import Record, Value, is_differentiable
from torch_backprop.algorithm.refusal import refuse_foreign_function
from torch_backprop.rule import RECORDERS, Rule, recorder

SLOT = "_torch_backprop"
"""The attribute by which a tensor knows its value: (tape, value, the value of the tensor it is a view of)."""
NO_SLOT = (None, None, None)
STALE = (
    "a tensor of shape {} was computed in an earlier pass, whose tape is gone: detach() what one pass hands"
    " to the next."
)
LEAF = "a leaf Variable that requires grad is being used in an in-place operation."


class Tape:
    """Records, within a ``with`` block, what the thread computes from what learns or is watched.

    Grad mode is on, so that a model's own ``no_grad`` blocks make constants, as does ``detach``; nothing may
    require a gradient, so that autograd records nothing.

    Attributes:
        records: the operations so far, in order.
        cotangents: those of what was watched, once the tape has gone back beyond it.

    >>> x = torch.tensor([1.0, 2.0])
    >>> with Tape() as tape:
    ...     tape.learn("x", x)
    ...     cost = (x * x).sum()
    >>> dict(tape.pull_back(cost))
    {'x': tensor([2., 4.])}
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.cotangents: dict[Hashable, Tensor] = {}
        self.number = next(self._numbers)
        self._mode = Interception(self)
        self._entered = ExitStack()

    def __enter__(self) -> Tape:
        thread = threading.get_ident()
        if thread in RECORDERS:
            raise RuntimeError("A tape records already: backpropagation cannot run within itself.")
        for context in (torch.inference_mode(False), torch.enable_grad(), self._mode):
            self._entered.enter_context(context)
        RECORDERS[thread] = self
        self._entered.callback(RECORDERS.pop, thread)
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.close()

    def learn(self, name: str, x: Tensor) -> None:
        """Has :meth:`pull_back` yield the gradient of ``x``, which must not be written into."""
        value = Value.of(x)
        value.name = name
        self.assign(x, value, x._base)

    def watch(self, key: Hashable, x: Tensor) -> None:
        """Keeps in ``cotangents``, under ``key``, the cotangent of ``x`` as it is now."""
        value = self.value(x)
        if value is None:
            value = Value.of(x)
            self.assign(x, value, x._base)
        value.keys.append(key)

    def value(self, x: Tensor) -> Value | None:
        """The value of ``x``; None for a constant.

        Raises:
            RuntimeError: it was computed in an earlier pass.
        """
        value, base = self._slot(x)
        if (root := _root(x)) is not x:
            now, _ = self._slot(root)
            # what it is a view of has been written into since, and it shows the new numbers
            if now is not None and now is not base:
                return self._mode.reread(x, root, now)
        return value

    def assign(self, x: Tensor, value: Value | None, viewed: Tensor | None = None) -> None:
        """Makes ``value`` the value of ``x``, which is a view of ``viewed``, if that is given."""
        base = None if viewed is None else self._slot(_root(viewed))[0]
        vars(x)[SLOT] = (self.number, value, base)

    def write(self, x: Tensor, value: Value) -> None:
        """Makes ``value`` the value of ``x``, which has been overwritten, and of what it is a view of.

        Raises:
            RuntimeError: ``x`` is a parameter, or a view of one.
        """
        root = _root(x)
        whole, _ = self._slot(root)
        # the old numbers of a parameter would be gone before its update
        if whole is not None and whole.name is not None:
            raise RuntimeError(LEAF)
        if root is not x:
            self._mode.write_through(x, value, root, whole)
        self.assign(x, value, None if root is x else root)

    def _slot(self, x: Tensor) -> tuple[Value | None, Value | None]:
        number, value, base = x.__dict__.get(SLOT, NO_SLOT)
        if number not in (None, self.number) and value is not None:
            raise RuntimeError(STALE.format(tuple(x.shape)))
        return (value, base) if number == self.number else (None, None)

    def record(self, record: Record) -> None:
        """Appends a record."""
        for value in record.inputs:
            if value is not None:
                value.uses += 1
        self.records.append(record)

    def apply(self, rule: type[Rule], args: tuple[Any, ...]) -> Any:
        """Calls a rule, and records it with its own residuals and its own backward pass."""
        inputs = tuple(self.value(arg) if isinstance(arg, Tensor) else None for arg in args)
        recorded = any(inputs) and torch.is_grad_enabled()
        if any(inputs) and not recorded:
            refuse_foreign_function()
        context = Context(tuple(value is not None for value in inputs))
        with self._paused(), torch.no_grad():
            output = rule.forward(*args)
            outputs = output if isinstance(output, tuple) else (output,)
            if not recorded:
                return output
            rule.setup_context(context, args, output)
            outputs = tuple(_own(y, args, context) for y in outputs)
        values = tuple(Value.of(y) if isinstance(y, Tensor) else None for y in outputs)

        def pullback(*cotangents: Tensor | None) -> Sequence[Tensor | None]:
            grads = rule.backward(context, *cotangents)
            return grads if isinstance(grads, tuple) else (grads,)

        residuals = tuple(residual for residual in context.residuals if residual is not None)
        materializes = context._materializes and not rule.sees_unused
        self.record(Record(rule.__name__, inputs, values, pullback, residuals, materializes))
        for y, value in zip(outputs, values, strict=True):
            if value is not None and is_differentiable(y) and not _is_among(y, context._constant):
                if _is_among(y, context._dirty):
                    self.write(y, value)
                else:
                    self.assign(y, value, y._base)
        return outputs if isinstance(output, tuple) else outputs[0]

    @contextmanager
    def _paused(self) -> Iterator[None]:
        # a rule's own operations, and rules within it, are not seen
        thread = threading.get_ident()
        del RECORDERS[thread]
        try:
            with self._mode.paused():
                yield
        finally:
            RECORDERS[thread] = self

    def pull_back(self, cost: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Goes back through the records, and frees each.

        Args:
            cost: a real scalar.

        Yields:
            Name and gradient of what learns, as soon as it is known; what the cost does not depend on is
            left out.
        """
        value = self.value(cost)
        if value is None:
            return
        value.add(torch.ones_like(cost))
        yield from self._known(value)
        del value
        # a record is freed when its pullback is done, with its residuals
        while self.records:
            record = self.records.pop()
            record.pull_back()
            for used in record.inputs:
                if used is not None:
                    used.uses -= 1
                    yield from self._known(used)

    def _known(self, value: Value) -> Iterator[tuple[str, Tensor]]:
        """What is known once a value has no uses left."""
        if value.uses or value.cotangent is None:
            return
        for key in value.keys:
            self.cotangents[key] = value.cotangent
        if value.name is not None and (gradient := value.take()) is not None:
            yield value.name, gradient


def watch(key: Hashable, x: Tensor) -> None:
    """Keeps the cotangent that will reach ``x``, if a tape records; for forward hooks, or within a model.

    It is in ``Backpropagation.watched`` after the call, under ``key``; of several calls with one key, the
    first tensor's.
    """
    tape = recorder()
    if tape is not None:
        tape.watch(key, x)


def _root(x: Tensor) -> Tensor:
    """What ``x`` is a view of, or itself."""
    return x._base if x._is_view() and x._base is not None else x


def _own(y: Any, args: tuple[Any, ...], context: Context) -> Any:
    """An input that is returned as it is becomes a tensor of its own, as in autograd."""
    returned = isinstance(y, Tensor) and _is_among(y, args) and not _is_among(y, context._dirty)
    return torch.ops.aten.alias(y) if returned else y


def _is_among(x: Tensor, tensors: tuple[Any, ...]) -> bool:
    return any(x is tensor for tensor in tensors)
