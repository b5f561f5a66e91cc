"""A target: a candidate or a reference, made a function of all its tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, _SingleLevelFunction
from torch.utils import _pytree as pytree

Around = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Target:
    """Something to call: a function, or a module whose parameters and buffers are handed to it.

    ``around``: the contexts in which it is called. ``spare``: it works in place, and must be handed copies
    of leaves. ``compiled``: it is compiled whole, as AOTAutograd traces it. ``tied``: a tensor of the module
    may stand there under two names, for which torch searches all of it at each call.
    """

    name: str
    function: Callable[..., Any]
    around: tuple[Around, ...] = ()
    spare: bool = False
    compiled: bool = False
    tied: bool = False

    @property
    def module(self) -> torch.nn.Module | None:
        """The module, if it is one."""
        return self.function if isinstance(self.function, torch.nn.Module) else None

    def outputs(
        self, args: tuple[Any, ...], state: Mapping[str, Tensor], training: bool | None = None
    ) -> tuple[Tensor, ...]:
        """The tensors of the output, in order; ``state``: the module's parameters and buffers."""
        with contextlib.ExitStack() as stack:
            for context in self.around:
                stack.enter_context(context())
            call = replace(self, function=_anew(self.function))._call
            if self.compiled:
                call = torch.compile(call, backend="aot_eager", fullgraph=True)
            output = call(args, state, training)
        return tuple(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))

    def within(self, context: Around) -> Target:
        """The same target, called in one more context."""
        return replace(self, around=(*self.around, context))

    def seen_through(self) -> Target:
        """The same target without hand-written backward passes: of its Functions, forward alone runs."""
        return self.within(_own_forward)

    def _call(self, args: tuple[Any, ...], state: Mapping[str, Tensor], training: bool | None) -> Any:
        if self.module is None:
            return self.function(*args)
        with _mode(self.module, training):
            return torch.func.functional_call(self.module, dict(state), args, tie_weights=self.tied)


def _anew(function: Any) -> Any:
    """Looks a Function's ``apply`` up again: from torch 2.14 on a bound copy cannot be seen through."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, Function) and function.__name__ == "apply":
        return owner.apply
    return function


def target(thing: Any, role: str = "candidate") -> Target:
    """The target of what a user passed.

    Args:
        thing: a function, an autograd.Function or its ``apply``, or a module.
        role: what the argument is called.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(thing, type) and issubclass(thing, Function):
        return Target(thing.__name__, thing.apply)
    if isinstance(thing, type) and issubclass(thing, torch.nn.Module):
        raise TypeError(f"{role}: a class of modules was passed; pass a module, {thing.__name__}(...)")
    if not callable(thing):
        raise TypeError(f"{role}: {thing!r} cannot be called; pass a function, a Function or a module")
    return Target(name_of(thing), thing, tied=_ties(thing))


def name_of(candidate: Any) -> str:
    """How a person calls it: the Function's name for its ``apply``, the class's for a module."""
    owner = getattr(candidate, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, Function):
        return owner.__name__
    if isinstance(candidate, torch.nn.Module):
        return type(candidate).__name__
    return getattr(candidate, "__name__", type(candidate).__name__)


def _ties(thing: Any) -> bool:
    if not isinstance(thing, torch.nn.Module):
        return False
    each, once = (
        [*thing.named_parameters(remove_duplicate=merged), *thing.named_buffers(remove_duplicate=merged)]
        for merged in (False, True)
    )
    return len(each) > len(once)


@contextlib.contextmanager
def _mode(module: torch.nn.Module, training: bool | None) -> Iterator[None]:
    before = module.training
    if training is None or training == before:
        yield
        return
    module.train(training)
    try:
        yield
    finally:
        module.train(before)


class _Context:
    """Stands in for ctx where forward is called without a node: it forgets what it is told."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Any) -> None: ...

    def save_for_forward(self, *tensors: Any) -> None: ...

    def mark_dirty(self, *tensors: Any) -> None: ...

    def mark_non_differentiable(self, *tensors: Any) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...


@contextlib.contextmanager
def _own_forward() -> Iterator[None]:
    """Within, ``Function.apply`` runs forward as ordinary differentiable code."""

    def apply(cls: Any, *args: Any) -> Any:
        if cls.setup_context is not Function.setup_context:
            return cls.forward(*args)
        needs = tuple(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        return cls.forward(_Context(needs), *args)

    # up to torch 2.13 Function.apply calls the other, even where a user has kept a bound copy of it
    kinds: tuple[Any, ...] = (Function, _SingleLevelFunction)
    before = [vars(kind).get("apply") for kind in kinds]
    for kind in kinds:
        kind.apply = classmethod(apply)
    try:
        yield
    finally:
        for kind, original in zip(kinds, before, strict=True):
            if original is None:
                del kind.apply
            else:
                kind.apply = original
