"""The verifier finds a slip of the pen anywhere in this package's own backward passes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.mutation import Mutant, mutants
from torch_backprop.nn import SPECS
from torch_backprop.spec import Draw, LayerSpec
from torch_backprop.verify import check

MODULES = (
    "loss.cross_entropy",
    "activation.smooth",
    "linear",
    "activation.parametric",
    "activation.piecewise",
    "loss.binary",
    "loss.regression",
    "dropout",
    "softmax",
    "loss.likelihood",
)

CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {}
"""Calls that no layer makes, of functions of these names: the builtin, its inputs and its options."""

EQUIVALENT: dict[str, str] = {}
"""Mutants that change no number and no promise."""

MISSED: dict[str, str] = {}
"""Mutants that are not found and should be."""


def found(mutant: Mutant) -> bool:
    """Whether a check has something to say about the mutant: the quick one, or else the default one."""
    try:
        users = mutant.users()
    except Exception:
        return True
    return any(
        check(*candidate, reference=reference, quick=quick, isolate=False).findings
        for quick in (True, False)
        for candidate, reference in candidates(users)
    )
