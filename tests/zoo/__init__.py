"""Planted faults, each the smallest Function that has it, beside its correct twin."""

from . import contract, formula, layout, loud, numerics, place, state, transforms
from .plant import Plant
from .public import PUBLIC

__all__ = ["PUBLIC", "ZOO", "Plant"]

ZOO: tuple[Plant, ...] = (
    *formula.PLANTS,
    *numerics.PLANTS,
    *layout.PLANTS,
    *place.PLANTS,
    *contract.PLANTS,
    *state.PLANTS,
    *transforms.PLANTS,
    *loud.PLANTS,
)
