"""What the algorithm is given: what learns, what is held constant, and refusals that say what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from torch_backprop.algorithm.tape import SLOT
from torch_backprop.rule import is_plain

Loss = Callable[[Any, Any], Tensor]
Hook = Callable[[Tensor], "Tensor | None"]

NOTHING_LEARNS = (
    "the model has nothing to learn: no parameter requires a gradient{}. Call requires_grad_() on those that"
    " are to learn."
)
LENGTHS = (
    "targets has {} rows and the output has {} (for inputs of {}): give each example one target. The loss"
    " said: {}"
)
INTEGERS = (
    "inputs is a tensor of {}, and the model computes with real numbers: pass inputs.float(), or numbers of"
    " its parameters' dtype. It said: {}"
)
HOOKED = (
    "{} has a hook on autograd's backward pass, which would not be called: remove it. Hooks of a parameter's"
    " own gradient (register_hook) are called, and watch() shows what reaches a tensor."
)
NOT_SCALAR = "loss returned {}: it must be a scalar, for example of reduction='mean'."
FOREIGN = (
    "a tensor that requires a gradient and is no parameter of the model or the loss takes part in the cost:"
    " register it as a parameter, or detach() it."
)


def check_types(model: Any, loss: Any, update: Any) -> None:
    """Holds the constructor's arguments to their types.

    Raises:
        TypeError: one is of another type.
    """
    for name, value, fits, expected in (
        ("model", model, isinstance(model, Module), "a torch.nn.Module"),
        ("loss", loss, callable(loss), "a function of output and targets"),
        (
            "update",
            update,
            update is None or isinstance(update, torch.optim.Optimizer),
            "an optimizer or None",
        ),
    ):
        if not fits:
            raise TypeError(f"{name} is {value!r}: it must be {expected}.")


def learning(model: Module, loss: Loss, update: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """The parameters that learn, by name, each once; with ``update`` those that it moves.

    Raises:
        ValueError: there is none, one has no shape yet, or two have the same name.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    own = set(named.values())
    for name, parameter in loss.named_parameters() if isinstance(loss, Module) else ():
        if f"loss.{name}" in named:
            raise ValueError(f"model and loss both have a parameter 'loss.{name}': rename the model's.")
        if parameter not in own:
            named[f"loss.{name}"] = parameter
    lazy = [name for name, parameter in named.items() if is_lazy(parameter)]
    if lazy:
        raise ValueError(f"parameter {lazy[0]!r} has no shape yet: call the model once on inputs.")
    moved = None if update is None else {p for group in update.param_groups for p in group["params"]}
    found = {name: p for name, p in named.items() if p.requires_grad and (moved is None or p in moved)}
    if not found:
        raise ValueError(NOTHING_LEARNS.format("" if update is None else " and is one of the optimizer's"))
    return found


def hooks(model: Module, loss: Loss) -> dict[str, tuple[Hook, ...]]:
    """The hooks of each parameter's gradient, by its name, in the order in which they are called.

    Raises:
        NotImplementedError: there are hooks of other kinds, which only a backward pass of autograd calls.
    """
    found = {}
    for prefix, part in (("", model), ("loss.", loss)):
        for name, module in part.named_modules() if isinstance(part, Module) else ():
            hooked = module._backward_hooks or module._backward_pre_hooks
            if hooked or isinstance(module, torch.nn.parallel.DistributedDataParallel):
                raise NotImplementedError(
                    HOOKED.format(f"{prefix}{name or 'the model'} ({type(module).__name__})")
                )
        for name, parameter in part.named_parameters() if isinstance(part, Module) else ():
            if parameter._post_accumulate_grad_hooks:
                raise NotImplementedError(HOOKED.format(f"parameter {prefix}{name}"))
            if parameter._backward_hooks:
                found[f"{prefix}{name}"] = tuple(parameter._backward_hooks.values())
    return found


def hooked(gradient: Tensor, hooks: tuple[Hook, ...]) -> Tensor:
    """What hooks make of a gradient, each of what the one before returned, if it returned anything."""
    for hook in hooks:
        changed = hook(gradient)
        gradient = gradient if changed is None else changed
    return gradient


@contextmanager
def held_constant(model: Module, loss: Loss, parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, no parameter requires a gradient, so that autograd has nothing to record."""
    modules = [model, loss] if isinstance(loss, Module) else [model]
    required = [p for module in modules for p in module.parameters() if p.requires_grad]
    try:
        for p in required:
            p.requires_grad_(False)
        yield
    finally:
        for p in required:
            p.requires_grad_(True)
        for p in parameters.values():
            vars(p).pop(SLOT, None)


def constants(model: Module, loss: Loss, learning: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The buffers, and the parameters that do not learn; those of the loss under ``"loss."``."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if isinstance(loss, Module):
        own = {**dict(loss.named_parameters()), **dict(loss.named_buffers())}
        named |= {f"loss.{name}": x for name, x in own.items()}
    ids = {id(x) for x in learning.values()}
    return {name: x for name, x in named.items() if id(x) not in ids}


def bound(model: Module, loss: Loss, values: Mapping[str, Tensor]) -> tuple[Callable[..., Any], Loss]:
    """Model and loss with these tensors in the places of their own parameters and buffers."""
    names = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    own = {name: x for name, x in values.items() if name in names}
    rest = {name.removeprefix("loss."): x for name, x in values.items() if name not in names}

    def bound_model(*args: Any, **kwargs: Any) -> Any:
        return functional_call(model, own, args, kwargs)

    def bound_loss(*args: Any) -> Any:
        return functional_call(loss, rest, args) if isinstance(loss, Module) else loss(*args)

    return bound_model, bound_loss


def detached(data: Any) -> Any:
    """Every tensor as one of its own that requires no gradient."""
    return pytree.tree_map_only(Tensor, Tensor.detach, data)


def predicted(model: Callable[..., Any], inputs: Any) -> Any:
    """The model's output for one tensor, a tuple of arguments, or a mapping of named ones.

    Raises:
        TypeError: the model cannot compute with the integers that it was given.
    """
    try:
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    except RuntimeError as error:
        refuse_integers(inputs, error)
        raise


def refuse_integers(inputs: Any, error: RuntimeError) -> None:
    """Says that it was the inputs, if what torch could not do is to compute with their integers.

    Raises:
        TypeError: it was.
    """
    integers = [x for x in _tensors(inputs) if not (x.is_floating_point() or x.is_complex())]
    if integers and re.search("long|int|short|byte|bool", str(error), re.IGNORECASE):
        raise TypeError(INTEGERS.format(integers[0].dtype, error)) from error


def cost(loss: Loss, output: Any, targets: Any, inputs: Any) -> Tensor:
    """The loss, if it is one finite real number.

    Raises:
        ValueError: it is not, or the loss cannot compute with targets of another length.
    """
    try:
        value = loss(output, targets)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        lengths = [len(x) if x is not None else None for x in map(_first, (targets, output, inputs))]
        if None in lengths or lengths[0] == lengths[1]:
            raise
        raise ValueError(LENGTHS.format(*lengths, error)) from error
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        what = f"shape {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(NOT_SCALAR.format(what))
    if is_plain(value) and not value.isfinite():
        raise ValueError(
            f"the cost is {value.item()}{_blame(inputs, output)}: the parameters are as they were."
        )
    return value


def examples(inputs: Any) -> int:
    """How many examples there are: the first tensor's length."""
    first = _first(inputs)
    return 1 if first is None else len(first)


def _blame(inputs: Any, output: Any) -> str:
    for name, data in (("inputs", inputs), ("the output", output)):
        first = _first(data)
        if first is not None and (first.is_floating_point() or first.is_complex()):
            wrong = ~first.detach().isfinite().flatten(1).all(1) if first.dim() > 1 else ~first.isfinite()
            if wrong.any():
                return f"; example {int(wrong.int().argmax())} is the first whose row of {name} is not finite"
    return ""


def _first(data: Any) -> Tensor | None:
    return next((x for x in _tensors(data) if x.dim()), None)


def _tensors(data: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(data) if isinstance(x, Tensor)]
