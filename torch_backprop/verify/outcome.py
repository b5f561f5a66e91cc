"""The outcome of a call and of its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .engine import gradients
from .sample import Sample
from .settings import SEED, seed
from .target import Target

Cotangent = Callable[[Tensor, int], Tensor]
"""Maps an output and its position to the cotangent of it."""


@dataclass(frozen=True)
class Outcome:
    """Outputs and gradients, or the error and the pass in which it was raised."""

    outputs: tuple[Tensor, ...] = ()
    live: tuple[int, ...] = ()
    gradients: dict[str, Tensor | None] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    error: Exception | None = None
    stage: str = ""

    @property
    def words(self) -> str:
        """The error in one line."""
        text = str(self.error).strip().splitlines()
        return f"{self.stage} raises {type(self.error).__name__}: {text[0] if text else ''}"


def random(output: Tensor, position: int = 0) -> Tensor:
    """A normal cotangent, the same for the same shape in every dtype."""
    generator = torch.Generator().manual_seed(SEED + position)
    wide = torch.complex128 if output.is_complex() else torch.float64
    drawn = torch.randn(output.shape, generator=generator, dtype=wide)
    # rounded, so that lower precisions hold the very same numbers
    return ((drawn * 16).round() / 16 if not drawn.is_complex() else drawn).to(output.device, output.dtype)


def forward(
    target: Target, sample: Sample, needs: Iterable[str] | None = None
) -> tuple[tuple[Tensor, ...], dict[str, Tensor], dict[str, Tensor]]:
    """Calls the target afresh: its output tensors, its leaves, its buffers."""
    call = sample.fresh(needs, target.spare)
    seed()
    outputs = target.outputs(call.args, call.state, sample.training)
    buffers = {name: x for name, x in call.state.items() if name not in sample.leaves}
    return outputs, call.leaves, buffers


def pull_back(
    outputs: tuple[Tensor, ...],
    leaves: dict[str, Tensor],
    live: Iterable[int],
    cotangent: Cotangent = random,
    **options: bool,
) -> dict[str, Tensor | None]:
    """The gradients of ``leaves`` for cotangents of the live outputs; None where there is no path."""
    used = [i for i in live if outputs[i].requires_grad]
    if not used or not leaves:
        return dict.fromkeys(leaves)
    cotangents = [cotangent(outputs[i].detach(), i) for i in used]
    found = gradients([outputs[i] for i in used], tuple(leaves.values()), cotangents, **options)
    return dict(zip(leaves, found, strict=True))


def run(
    target: Target,
    sample: Sample,
    cotangent: Cotangent = random,
    needs: Iterable[str] | None = None,
    live: tuple[int, ...] | None = None,
) -> Outcome:
    """Both passes, errors caught; ``live``: the outputs that get a cotangent (default: all that can)."""
    try:
        outputs, leaves, buffers = forward(target, sample, needs)
    except Exception as error:
        return Outcome(error=error, stage="forward")
    if live is None:
        live = tuple(i for i, y in enumerate(outputs) if y.requires_grad)
    found = Outcome(tuple(y.detach().clone() for y in outputs), live, {}, buffers)
    if live and max(live) >= len(outputs):
        wanted = max(live) + 1
        error = ValueError(f"{len(outputs)} output tensors, at least {wanted} expected")
        return Outcome(error=error, stage="forward")
    try:
        found.gradients.update(pull_back(outputs, leaves, live, cotangent))
    except Exception as error:
        return Outcome(found.outputs, live, {}, buffers, error, "backward")
    return found
