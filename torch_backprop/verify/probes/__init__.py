"""The probes by topic. To import this package is to fill the table."""

from . import (
    contract,
    cotangents,
    gradients,
    memory,
    needs,
    precision,
    second_order,
    state,
    transforms,
)

__all__ = [
    "contract",
    "cotangents",
    "gradients",
    "memory",
    "needs",
    "precision",
    "second_order",
    "state",
    "transforms",
]
