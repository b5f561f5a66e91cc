"""Swaps the layers of a model for their hand-derived twins, and back."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import Module

from torch_backprop.nn import SPECS

# what torch does not have has no twin: its reference is a formula of ours
TWINS = {spec.reference: spec.layer for spec in SPECS if spec.reference.__module__.startswith("torch.nn.")}
_ORIGINAL = "_torch_backprop_original"


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did to a model.

    Attributes:
        converted: name of the module in the model, and of its class.
        left_alone: the same of each other module, containers apart.
    """

    converted: dict[str, str]
    left_alone: dict[str, str]

    def __str__(self) -> str:
        lines = [f"converted {len(self.converted)} layers, left {len(self.left_alone)} alone"]
        lines += [f"  left alone: {name or '(the model)'}, {kind}" for name, kind in self.left_alone.items()]
        return "\n".join(lines)


def convert(model: Module) -> Conversion:
    """Makes every layer of ``model`` that has a twin in :mod:`torch_backprop.nn` that twin, in place.

    Only the class of a layer changes: parameters, buffers, hooks, the training flag and the state dict stay
    the objects they are, so that an optimizer made before goes on working. A subclass of a torch layer is
    left alone, since its own ``forward`` may not be what the twin computes.

    Returns:
        What was converted and what was left alone; the model is changed in place.

    Raises:
        TypeError: ``model`` is not a ``torch.nn.Module``.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.LSTM(2, 2))
    >>> print(convert(model))
    converted 1 layers, left 1 alone
      left alone: 1, LSTM
    """
    converted, left_alone = {}, {}
    for name, module in _modules(model):
        twin = TWINS.get(type(module))
        if twin is not None:
            converted[name] = type(module).__name__
            # in the module itself, so that copies and pickles of a converted model can be reverted too
            module.__dict__[_ORIGINAL] = type(module)
            module.__class__ = twin
        elif type(module) not in TWINS.values() and not _is_container(module):
            left_alone[name] = type(module).__name__
    return Conversion(converted, left_alone)


def revert(model: Module) -> None:
    """Undoes :func:`convert` exactly: the layers that it converted are torch's again, and no others.

    Raises:
        TypeError: ``model`` is not a ``torch.nn.Module``.
    """
    for _, module in _modules(model):
        original = module.__dict__.pop(_ORIGINAL, None)
        if original is not None:
            module.__class__ = original


def _is_container(module: Module) -> bool:
    return next(module.children(), None) is not None and not module._parameters


def _modules(model: Module) -> list[tuple[str, Module]]:
    if not isinstance(model, Module):
        raise TypeError(f"model is a {type(model).__name__}; give a torch.nn.Module")
    return list(model.named_modules())
