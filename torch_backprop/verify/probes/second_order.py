"""The gradient of the gradient: right, or a loud refusal."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..diagnosis import excerpt
from ..outcome import forward, random
from ..probe import probe
from ..snippet import SECOND
from ..target import Target
from ..trial import Evidence, Trial

_SILENT = "silently detached: differentiated as a constant, or residuals saved as constants"


@probe(sound=True, recipe=SECOND)
def double_backward(trial: Trial) -> Iterator[Evidence]:
    """Second gradients, of the leaves and of grad_output."""
    if trial.truth_of.numeric:
        return
    try:
        expected = _second(trial, trial.truth_of.target)
    except Exception:
        return
    try:
        seen = _second(trial, trial.candidate)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Evidence("no-double-backward", words, "a second gradient", "create_graph=True raises")
        return
    for name, wanted in expected.items():
        found = seen.get(name)
        if trial.near(found, wanted):
            continue
        why = _SILENT if found is None or not found.any() else "a term is missing, or a residual is detached"
        words = f"second gradient of {name}: {why}"
        yield Evidence("double-backward-wrong", excerpt(found), excerpt(wanted), words)
        return


def _second(trial: Trial, target: Target) -> dict[str, Tensor | None]:
    """Gradients of a pairing of the gradients, by ``backward``: ``grad`` is silent about refusals."""
    outputs, leaves, _ = forward(target, trial.sample)
    live = [(i, outputs[i]) for i in trial.truth().live if outputs[i].requires_grad]
    cotangents = [random(y.detach(), i).requires_grad_() for i, y in live]
    first = torch.autograd.grad(
        [y for _, y in live], tuple(leaves.values()), cotangents, create_graph=True, allow_unused=True
    )
    onward = [(i, g) for i, g in enumerate(first) if g is not None and g.requires_grad]
    if onward:
        torch.autograd.backward([g for _, g in onward], [random(g.detach(), 50 + i) for i, g in onward])
    named = leaves | {f"grad_output {i}": g for (i, _), g in zip(live, cotangents, strict=True)}
    return {name: x.grad for name, x in named.items()}
