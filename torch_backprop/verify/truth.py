"""The truth about a candidate: a reference under built-in autograd, or the candidate's own forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .outcome import Cotangent, Outcome, random, run
from .sample import Sample
from .settings import seed
from .target import Target

_SHRINK = 1.4
_ROWS = 9
_EXTRAPOLATED = 1e-9
_MANY = 200
"""Elements beyond which differences are not taken: each costs some twenty calls."""


@dataclass(frozen=True)
class Truth:
    """What is right.

    Attributes:
        target: what is differentiated.
        judges_forward: whether it is another function than the candidate.
        numeric: whether gradients are extrapolated differences, autograd being blind here.
        live: the outputs that are differentiated; None: all that can be.
        uncertainty: the relative error of its own gradients, beyond rounding.
    """

    target: Target
    judges_forward: bool = True
    numeric: bool = False
    live: tuple[int, ...] | None = None
    uncertainty: float = 0.0

    def outcome(self, sample: Sample, cotangent: Cotangent, needs: Iterable[str] | None) -> Outcome:
        """Outputs and gradients on the sample; an error where the sample is refused."""
        if not self.numeric:
            return run(self.target, sample, cotangent, needs, self.live)
        return _differences(self.target, sample, cotangent, needs)

    def by_differences(self) -> Truth:
        """The same function, with extrapolated differences for gradients."""
        return replace(self, numeric=True, uncertainty=_EXTRAPOLATED)


def in_place(target: Target, sample: Sample) -> Target:
    """The target, marked as ``spare`` if it works in place and so refuses leaves."""
    words = str(run(target, sample).error)
    return replace(target, spare=True) if "a leaf Variable that requires grad" in words else target


def own_forward(candidate: Target, sample: Sample) -> Truth:
    """The candidate's own forward as truth, by autograd if that sees through it, else by differences."""
    seen_through = candidate.seen_through()
    for target in (seen_through, replace(seen_through, spare=True)):
        truth = Truth(target, judges_forward=False)
        found = truth.outcome(sample, random, None)
        if found.error is None and found.live:
            truth = replace(truth, live=_differentiable(candidate, sample, found.live))
            return truth if _agrees(truth, sample) else truth.by_differences()
    return Truth(replace(candidate, spare=True), judges_forward=False).by_differences()


def _differentiable(candidate: Target, sample: Sample, live: tuple[int, ...]) -> tuple[int, ...] | None:
    """The outputs that the candidate has not marked as non-differentiable, if any are left."""
    own = run(candidate, sample).live
    return tuple(i for i in live if i in own) or None


def _agrees(truth: Truth, sample: Sample) -> bool:
    """Whether autograd's gradient along one direction is the function's slope: no detach, no .data."""
    generator = torch.Generator().manual_seed(5)
    found = truth.outcome(sample, random, None)
    if sample.dtype != torch.float64:
        return True
    directions = {
        name: torch.randn(sample.tensors[name].shape, generator=generator).to(sample.tensors[name])
        for name in sample.leaves
    }

    def value(step: float) -> float:
        moved = sample.changed("", "", lambda name, x: x + step * directions[name])
        return pairing(truth.target, moved, random, found.live)

    slope = sum(
        float((gradient * directions[name]).sum())
        for name, gradient in found.gradients.items()
        if gradient is not None
    )
    expected, uncertainty = ridders(value)
    return abs(slope - expected) <= max(100 * uncertainty, 1e-5 * max(abs(expected), abs(slope)), 1e-9)


def ridders(value: Callable[[float], float], step: float = 0.02) -> tuple[float, float]:
    """The derivative of ``value`` at 0, with an estimate of its error.

    Ridders (1982), Advances in Engineering Software 4(2), 75-76: central differences at shrinking steps,
    extrapolated to step 0; the pair of neighbours in the tableau that differ least is the answer.
    """
    best, error = math.nan, math.inf
    previous: list[float] = []
    for _ in range(_ROWS):
        row = [(value(step) - value(-step)) / (2 * step)]
        for j, coarse in enumerate(previous):
            factor = _SHRINK ** (2 * (j + 1))
            row.append((row[j] * factor - coarse) / (factor - 1))
            change = max(abs(row[-1] - row[j]), abs(row[-1] - coarse))
            if change <= error:
                best, error = row[-1], change
        if previous and abs(row[-1] - previous[-1]) >= 2 * error:
            break
        previous, step = row, step / _SHRINK
    return best, error


def pairing(target: Target, sample: Sample, cotangent: Cotangent, live: Iterable[int] | None) -> float:
    """The inner product of outputs and cotangents; its real part."""
    call = sample.fresh((), target.spare)
    seed()
    outputs = target.outputs(call.args, call.state, sample.training)
    chosen = _real(outputs) if live is None else live
    results = [(outputs[i].detach(), i) for i in chosen]
    return sum(float((y * cotangent(y, i).conj()).sum().real) for y, i in results)


def _real(outputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(i for i, y in enumerate(outputs) if y.is_floating_point())


def _differences(
    target: Target, sample: Sample, cotangent: Cotangent, needs: Iterable[str] | None
) -> Outcome:
    names = sample.leaves if needs is None else tuple(needs)
    elements = sum(sample.tensors[name].numel() for name in names)
    found = run(target, sample, cotangent, ())
    if found.error is not None:
        return found
    if elements > _MANY or sample.dtype != torch.float64:
        return replace(found, error=ValueError("too large or too coarse for differences"), stage="forward")
    live = _real(found.outputs)
    gradients = {name: _slopes(target, sample, cotangent, live, name) for name in names}
    return replace(found, live=live, gradients=gradients)


def _slopes(target: Target, sample: Sample, cotangent: Cotangent, live: tuple[int, ...], name: str) -> Tensor:
    tensor = sample.tensors[name]

    def slope(index: int) -> tuple[float, float]:
        direction = torch.zeros_like(tensor).reshape(-1)
        direction[index] = 1
        direction = direction.view(tensor.shape)
        width = 0.02 * max(1.0, float(tensor.view(-1)[index].abs()))

        def value(step: float) -> float:
            moved = sample.changed("", "", lambda _, x: x + step * direction, (name,))
            return pairing(target, moved, cotangent, live)

        return ridders(value, width)

    found = torch.tensor([slope(i) for i in range(tensor.numel())], dtype=tensor.dtype).view(-1, 2)
    slopes, errors = found.unbind(1)
    # at a kink the differences do not converge: there is no truth to hold anything against
    reliable = errors <= 1e-9 * slopes.abs().nan_to_num().max().clamp_min(1e-9) if len(slopes) else errors > 0
    return torch.where(reliable, slopes, torch.nan).view(tensor.shape)
