"""The class that a module becomes when it is converted, and what it was."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch.nn import Module
from torch.nn.utils import parametrize

from torch_backprop.nn import SPECS

# what torch does not have has no twin: its reference is a formula of ours
TWINS = {spec.reference: spec.layer for spec in SPECS if spec.reference.__module__.startswith("torch.nn.")}
ORIGINALS = {twin: original for original, twin in TWINS.items()}

_HARMLESS = {"__init__", "reset_parameters", "_reset_parameters", "extra_repr"}
"""Methods of layers that ``forward`` does not call."""
_DERIVING = {"__init_subclass__", "__reduce__", "__reduce_ex__"}
"""Methods that a class derived from a subclass would set off, or has to have itself."""


def layer_class(module: Module) -> type[Module]:
    """The module's class; without what a parametrization derived from it."""
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def is_ours(kind: type[Module]) -> bool:
    """Whether it is a layer of this package, or a subclass of one."""
    return any(base in ORIGINALS for base in kind.__mro__)


def twin_of(module: Module) -> type[Module] | str:
    """The class that computes by hand what the module computes, or why there is none."""
    kind = layer_class(module)
    base = next((base for base in kind.__mro__ if base in TWINS), None)
    if base is None and kind.__module__.startswith("torch."):
        return "no twin"
    if base is None:
        return "computes in a forward of its own; what it calls can be patched()"
    if "forward" in vars(module):
        return f"a {base.__name__} whose forward has been replaced; what it calls can be patched()"
    if kind is base:
        return TWINS[base]
    own = _own_methods(kind, base)
    if own:
        return f"a subclass of {base.__name__} with its own {own[0]}, which may compute something else"
    return derived(kind, base)


def original_of(kind: type[Module]) -> type[Module]:
    """The class that became ``kind``."""
    return ORIGINALS.get(kind) or kind.__bases__[0]


def become(module: Module, kind: type[Module]) -> None:
    """Changes the class, and keeps the properties in which a parametrization has put its tensors."""
    if parametrize.is_parametrized(module):
        given = type(module)
        own = {name: value for name, value in vars(given).items() if name != "__doc__"}
        kind = type(given.__name__, (kind,), own)
    module.__class__ = kind


@cache
def derived(kind: type[Module], base: type[Module]) -> Any:
    """``kind``, a subclass of torch's layer ``base``, over the layer's twin."""
    twin: Any = TWINS[base]

    class Derived(kind, twin):
        def __reduce_ex__(self, protocol: Any) -> Any:
            # by classes that can be imported; the rest is the state
            return _blank, (kind, base), *super().__reduce_ex__(protocol)[2:]

    Derived.__name__, Derived.__qualname__ = kind.__name__, kind.__qualname__
    Derived.__module__, Derived.__doc__ = kind.__module__, kind.__doc__
    return Derived


def _blank(kind: type[Module], base: type[Module]) -> Module:
    return derived(kind, base).__new__(derived(kind, base))


def _own_methods(kind: type[Module], base: type[Module]) -> list[str]:
    """What the subclass overrides of torch's layer or of its twin, so that the two may differ in effect."""
    layer = {name for owner in (TWINS[base], *_below_module(base)) for name in vars(owner)}
    return [
        name
        for owner in kind.__mro__
        if owner not in base.__mro__
        for name, value in vars(owner).items()
        if name in (layer - _HARMLESS) | _DERIVING and (callable(value) or hasattr(value, "__get__"))
    ]


def _below_module(base: type[Module]) -> list[type]:
    return [owner for owner in base.__mro__ if owner not in Module.__mro__]
