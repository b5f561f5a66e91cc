"""Whether a reference takes an index that is none, and reads memory that is not its arguments'."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .outcome import run
from .sample import Layout
from .trial import Trial

_MARGIN = 256
"""Elements on either side of a tensor: more than the usual index that means none."""
_INDICES = ("masked-index", "all-masked")


def strays(trial: Trial) -> bool:
    """Whether the truth changes with what lies beside its arguments in memory: then there is none.

    Only the forward pass is run: its backward pass would write there.
    """
    if trial.sample.fault not in _INDICES or trial.truth_of.numeric:
        return False
    return trial.once("strays", lambda: _moves(trial))


def _moves(trial: Trial) -> bool:
    beside = (replace(trial.sample, layout=_among(filling)) for filling in (0.0, 1e3))
    low, high = (run(trial.truth_of.target, sample, needs=()).outputs for sample in beside)
    return any(not torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(low, high, strict=False))


def _among(filling: float) -> Layout:
    def layout(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        memory = x.new_full((x.numel() + 2 * _MARGIN,), filling)
        return memory[_MARGIN : _MARGIN + x.numel()].view(x.shape).copy_(x)

    return layout
