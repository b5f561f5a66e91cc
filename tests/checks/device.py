"""A device other than the CPU: every tensor that a rule makes is where its inputs are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from tests.accelerator import accelerator, fetched
from torch_backprop.spec import Case, LayerSpec

from .agreement import Raised, outcome
from .comparison import equal
from .trial import Trial, trials, values_and_gradients


def other_device(spec: LayerSpec, case: Case) -> None:
    """On an accelerator values and gradients are the CPU's, and on the accelerator."""
    remote, builtin = trials(spec, case)
    here = trials(spec, case)[0]
    seen, _ = outcome(_fetched, remote, may_raise=True)
    # what the built-in cannot do on this device either says nothing of the layer
    if isinstance(seen, Raised) and isinstance(outcome(_fetched, builtin, may_raise=True)[0], Raised):
        return
    equal(seen, values_and_gradients(here), f"{here.title}: on an accelerator")


def _fetched(trial: Trial) -> Any:
    with accelerator() as to:
        there = replace(trial, module=to(trial.module), inputs=to(trial.inputs))
        found = values_and_gradients(there, layout=to)
        return pytree.tree_map_only(Tensor, fetched, found)
