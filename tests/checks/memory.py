"""The bytes held for the backward pass: never more than the built-in holds."""

from __future__ import annotations

from experiments.held import held_bytes
from torch_backprop.spec import Case, LayerSpec

from .gradients import subsets
from .trial import Trial, trials


def memory(spec: LayerSpec, case: Case) -> None:
    """For every subset of the leaves that need a gradient."""
    ours, builtin = trials(spec, case, corrected={})
    for subset in subsets(tuple(ours.leaves)):
        held, allowed = bytes_held(ours, subset), bytes_held(builtin, subset)
        assert held <= allowed, f"{ours.title}: holds {held} bytes for {subset}, the built-in {allowed}"


def bytes_held(trial: Trial, needs: tuple[str, ...]) -> int:
    """Bytes held for the backward pass, without those of the parameters."""
    trial.need(needs)
    return held_bytes(trial.call, trial.module.parameters())
