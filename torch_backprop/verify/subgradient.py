"""At a kink there is more than one right answer, if the candidate's own forward is the only witness."""

from __future__ import annotations

import torch
from torch import Tensor

from .outcome import random
from .trial import Trial

_STEP = 1e-6
_TOLERANCE = 1e-4
_NEIGHBOURS = 64
_KINKS = ("zero-values", "tied-values", "mask-by-closeness", "all-masked", "masked-index", "wrong-gradient")


def is_subgradient(trial: Trial, leaf: str, seen: Tensor | None) -> bool:
    """Whether ``seen`` is a mixture of the gradients around the sample.

    A mixture lies in their box, and on the plane through them: where the gradients of tied values always
    add up to the same, so must it. A reference that was named has the last word; then this is False.
    """
    if trial.truth_of.judges_forward or trial.sample.fault not in _KINKS or seen is None:
        return False
    if seen.is_complex() or not seen.numel():
        return False
    around = _around(trial, leaf, min(_NEIGHBOURS, 2 * seen.numel() + 4))
    if around is None or not bool(seen.isfinite().all()):
        return False
    flat = seen.detach().reshape(-1).double()
    slack = _TOLERANCE * around.abs().max()
    if not bool((around.amax(0) - around.amin(0)).amax() > 10 * slack):  # smooth here: one right answer
        return False
    in_box = (flat >= around.amin(0) - slack) & (flat <= around.amax(0) + slack)
    return bool(in_box.all()) and bool(_off_plane(flat, around) <= slack)


def _off_plane(point: Tensor, around: Tensor) -> Tensor:
    """The distance of a point from the plane through the rows."""
    axes = torch.linalg.svd(around[1:] - around[0], full_matrices=False)
    basis = axes.Vh[_TOLERANCE * axes.S.amax().clamp_min(1e-9) < axes.S]
    offset = point - around[0]
    return (offset - (offset @ basis.T) @ basis).abs().amax()


def _around(trial: Trial, leaf: str, count: int) -> Tensor | None:
    """Gradients of the truth at points next to the sample, as rows."""
    rows = []
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        moved = trial.sample.changed("", "", lambda _, x: x + _step(x, generator), (leaf,))
        gradient = trial.truth_of.outcome(moved, random, (leaf,)).gradients.get(leaf)
        if gradient is None or trial.truth_of.numeric or not bool(gradient.isfinite().all()):
            return None
        rows.append(gradient.reshape(-1).double())
    return torch.stack(rows) if rows else None


def _step(like: Tensor, generator: torch.Generator) -> Tensor:
    return _STEP * torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
