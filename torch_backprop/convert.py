"""Swaps the layers of a model, or the functions that it calls, for their hand-derived twins, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

from torch_backprop import functional
from torch_backprop.twins import become, is_ours, layer_class, original_of, twin_of

_CONVERTED = "_torch_backprop_converted"

Choice = str | type[Module] | Sequence["str | type[Module]"]
"""Modules by class, or by a pattern of their names as in ``"encoder.*"``; or several of these."""


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did to a model.

    Attributes:
        converted: name of the module in the model, and of its class.
        left_alone: name of each other module, containers apart, and its class with the reason.
    """

    converted: dict[str, str]
    left_alone: dict[str, str]

    def __str__(self) -> str:
        lines = [f"converted {len(self.converted)} layers, left {len(self.left_alone)} alone"]
        lines += [f"  left alone: {name or '(the model)'}, {why}" for name, why in self.left_alone.items()]
        return "\n".join(lines)


def convert(model: Module, only: Choice | None = None, except_: Choice = ()) -> Conversion:
    """Makes every layer of ``model`` that has a twin in :mod:`torch_backprop.nn` that twin, in place.

    Only the class of a layer changes: parameters, buffers, hooks, parametrizations, the training flag and the
    state dict stay the objects they are, so that an optimizer made before goes on working. A subclass of a
    torch layer, say with another constructor, stays that subclass, over the twin; it is left alone if it has
    a ``forward`` of its own, or another method from which torch's ``forward`` may compute something else.
    ``torch.fx`` and ``torch.jit.script`` do not see through our layers: use them first, then convert.
    ``torch.jit.trace`` and ``torch.export`` do, and their programs differentiate the operators by themselves.
    Through nested tensors of the jagged layout torch differentiates too; those of the strided layout, which
    raise, are for ``TransformerEncoder`` alone.

    Args:
        model: of any modules; a model wrapped for data-parallel training is converted within its wrapper.
        only: the layers to convert, by class or by a pattern of their names. Default: all.
        except_: the layers to leave alone, in the same way.

    Returns:
        What was converted, what was left alone, and why; the model is changed in place.

    Raises:
        TypeError: ``model`` is not a ``torch.nn.Module``, or ``only`` or ``except_`` holds something else
            than classes of modules and names.
        ValueError: a pattern matches no module; or part of the model is compiled, scripted or sharded, which
            has fixed what its layers compute. Nothing has been changed then.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Tanh())
    >>> print(convert(model, only=torch.nn.Linear))
    converted 1 layers, left 1 alone
      left alone: 1, Tanh: not chosen
    """
    modules = _modules(model)
    chosen = {*modules.values()} if only is None else _matching(model, only, "only")
    chosen -= _matching(model, except_, "except_")
    converted, left_alone = {}, {}
    for name, module in modules.items():
        kind = layer_class(module)
        if is_ours(kind):
            continue
        twin = twin_of(module)
        if isinstance(twin, type) and module in chosen:
            converted[name] = kind.__name__
            become(module, twin)
            # in the module itself, so that copies and pickles of a converted model can be reverted too
            module.__dict__[_CONVERTED] = True
        elif not _is_container(module) and "parametrizations" not in name.split("."):
            left_alone[name] = f"{kind.__name__}: {'not chosen' if isinstance(twin, type) else twin}"
    return Conversion(converted, left_alone)


def revert(model: Module) -> None:
    """Undoes :func:`convert` exactly: the layers that it converted are torch's again, and no others.

    Raises:
        TypeError: ``model`` is not a ``torch.nn.Module``.
        ValueError: part of the model is compiled, scripted or sharded.
    """
    modules = _modules(model)
    for module in modules.values():
        # what has become another class since is no longer ours to undo
        if module.__dict__.pop(_CONVERTED, False) and is_ours(layer_class(module)):
            become(module, original_of(layer_class(module)))


class patched(TorchFunctionMode):
    """Within, every call of a ``torch.nn.functional`` function that has a twin calls the twin.

    It serves models that call ``F.gelu`` and the like in their own ``forward``, which :func:`convert` leaves
    alone; and ``x.softmax(-1)``, ``torch.sigmoid(x)`` and the like. The backward pass of what was called
    within may run outside. torch runs it without such modes, so that a checkpoint within, which calls the
    functions again there, is told of it: ``checkpoint(..., context_fn=lambda: (nullcontext(), patched()))``.

    >>> import torch
    >>> with patched():
    ...     y = torch.nn.functional.gelu(torch.ones(2, requires_grad=True))
    >>> y.grad_fn.name()
    'gelu_ruleBackward'
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls the twin of ``func`` if it has one, and no tensor is given to write into."""
        named = dict(kwargs or {})
        called = func if named.get("out") is not None else _FUNCTIONS.get(func, func)
        return called(*args, **named)


def _softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    return functional.softmax(input, dim, dtype=dtype)


def _log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    return functional.log_softmax(input, dim, dtype=dtype)


_METHODS = {
    "relu": functional.relu,
    "sigmoid": functional.sigmoid,
    "tanh": functional.tanh,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}
"""Functions that models call as those of ``torch`` and as methods too."""
_OVERWRITING = ("celu", "elu", "hardtanh", "leaky_relu", "relu", "rrelu", "selu", "threshold")
"""Functions that torch.nn.functional has a second time, with a final underscore."""


def _replaced() -> dict[Any, Callable[..., Any]]:
    twins = {name: getattr(functional, name) for name in functional.__all__}
    # what torch.nn.functional does not have, torch has
    found = {getattr(torch.nn.functional, name, getattr(torch, name, None)): twins[name] for name in twins}
    found |= {getattr(owner, name): twin for owner in (torch, Tensor) for name, twin in _METHODS.items()}
    in_place = {name: partial(twins[name], inplace=True) for name in _OVERWRITING}
    found |= {getattr(torch.nn.functional, f"{name}_"): twin for name, twin in in_place.items()}
    return found | {Tensor.relu_: in_place["relu"]}


_FUNCTIONS = _replaced()


def _modules(model: Module) -> dict[str, Module]:
    """Every module by name, or an error where it is too late to change what they compute."""
    if not isinstance(model, Module):
        raise TypeError(f"model is a {type(model).__name__}; give a torch.nn.Module")
    modules = dict(model.named_modules())
    for name, module in modules.items():
        for fixed, how in _FIXED.items():
            if fixed(module):
                raise ValueError(f"{name or 'the model'} is {how}")
    return modules


def _is_compiled(module: Module) -> bool:
    return module._compiled_call_impl is not None or _has_base(module, "OptimizedModule")


def _is_scripted(module: Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _is_sharded(module: Module) -> bool:
    return _has_base(module, "FSDPModule") or _has_base(module, "FullyShardedDataParallel")


def _has_base(module: Module, name: str) -> bool:
    # by name: to import these classes takes seconds, and who has not imported them has none
    return any(base.__name__ == name for base in type(module).__mro__)


_FIXED: dict[Callable[[Module], bool], str] = {
    _is_compiled: "compiled: convert (or revert) first, then compile",
    _is_scripted: "a script: convert (or revert) the module that it was made from",
    _is_sharded: "sharded: convert (or revert) first, then shard",
}


def _several(choice: Any) -> Iterable[Any]:
    return choice if isinstance(choice, Iterable) and not isinstance(choice, (str, type)) else (choice,)


def _matching(model: Module, choice: Choice, argument: str) -> set[Module]:
    """The modules that are chosen; one that is shared, by any of its names."""
    found: set[Module] = set()
    for item in _several(choice):
        if isinstance(item, str):
            named = model.named_modules(remove_duplicate=False)
            matching = {module for name, module in named if fnmatchcase(name, item)}
            if not matching:
                raise ValueError(f"{argument}: {item!r} matches no module; names are as in named_modules()")
        elif isinstance(item, type) and issubclass(item, Module):
            matching = {module for module in model.modules() if isinstance(module, item)}
        else:
            raise TypeError(f"{argument}: {item!r} is neither a class of modules nor a pattern of names")
        found |= matching
    return found


def _is_container(module: Module) -> bool:
    if type(module).__module__ == "torch.nn.modules.container":
        return True
    return next(module.children(), None) is not None and not module._parameters
