"""The truth about a candidate: a reference under built-in autograd, or the candidate's own forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .differences import EXTRAPOLATED, Jacobian, pairing, ridders
from .outcome import Cotangent, Outcome, forward, random, run
from .sample import Sample
from .spy import nodes
from .target import Target

_KEPT = 3
"""Samples whose derivatives are kept: the given one, one derived from it, one moved by rounding."""
_KEPT_APPLY = (
    "the backward pass could not be taken out of the candidate, which keeps a Function's apply: it was held "
    "to differences, which judge less; look apply up at the call (Name.apply), or pass reference="
)


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
    _jacobians: dict[int, Jacobian] = field(default_factory=dict, compare=False)

    def outcome(self, sample: Sample, cotangent: Cotangent, needs: Iterable[str] | None) -> Outcome:
        """Outputs and gradients on the sample; an error where the sample is refused."""
        if not self.numeric:
            return run(self.target, sample, cotangent, needs, self.live)
        found = run(self.target, sample, cotangent, ())
        if found.error is not None:
            return found
        if sample.dtype.to_real() not in EXTRAPOLATED:
            return replace(found, error=ValueError("too coarse for differences"), stage="forward")
        jacobian = self._jacobian(sample, found)
        cotangents = [cotangent(found.outputs[i], i) for i in jacobian.live]
        names = sample.leaves if needs is None else tuple(needs)
        try:
            gradients = {name: jacobian.pulled_back(name, cotangents) for name in names}
        except Exception as error:
            return replace(found, error=error, stage="forward")
        return replace(found, live=jacobian.live, gradients={**gradients})

    def _jacobian(self, sample: Sample, found: Outcome) -> Jacobian:
        """Of each sample once, whatever the cotangents; it holds the sample, so that its id stays its own."""
        live = self.live
        if live is None:
            able = (i for i, y in enumerate(found.outputs) if y.is_floating_point() or y.is_complex())
            live = tuple(able)
        if id(sample) not in self._jacobians and len(self._jacobians) == _KEPT:
            del self._jacobians[next(iter(self._jacobians))]
        return self._jacobians.setdefault(id(sample), Jacobian(self.target, sample, live))

    def by_differences(self, dtype: torch.dtype) -> Truth:
        """The same function, with extrapolated differences for gradients."""
        return replace(self, numeric=True, uncertainty=EXTRAPOLATED.get(dtype.to_real(), 0.0))


def works_in_place(found: Outcome) -> bool:
    """Whether a leaf was refused, because it would be written into."""
    return "a leaf Variable that requires grad" in str(found.error)


def in_place(target: Target, found: Outcome, sample: Sample) -> tuple[Target, Outcome]:
    """The target, marked as ``spare`` if it works in place and so refuses leaves, and its outcome then."""
    if not works_in_place(found):
        return target, found
    spare = replace(target, spare=True)
    return spare, run(spare, sample)


def own_forward(candidate: Target, seen: Outcome, sample: Sample, note: Callable[[str], None]) -> Truth:
    """The candidate's own forward as truth, by autograd if that sees through it, else by differences.

    Outputs that the candidate has marked as non-differentiable are not differentiated, if any are left.
    Where its own backward pass could not be taken out of it, that is no truth about itself.
    """
    seen_through = candidate.seen_through()
    for target in (seen_through, replace(seen_through, spare=True)):
        truth = Truth(target, judges_forward=False)
        found = truth.outcome(sample, random, None)
        if found.error is None and found.live:
            truth = replace(truth, live=tuple(i for i in found.live if i in seen.live) or None)
            # from torch 2.14 on, of a bound apply
            if by_hand(target, sample):
                note(_KEPT_APPLY)
                return truth.by_differences(sample.dtype)
            return truth if _agrees(truth, sample) else truth.by_differences(sample.dtype)
    spare = replace(candidate, spare=True)
    return Truth(spare, judges_forward=False, live=seen.live or None).by_differences(sample.dtype)


def by_hand(target: Target, sample: Sample) -> bool:
    """Whether a backward pass of it is hand-written."""
    return any(True for _ in nodes(forward(target, sample)[0]))


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

    def value(step: float) -> Tensor:
        moved = sample.changed("", "", lambda name, x: x + step * directions[name])
        return pairing(truth.target, moved, random, found.live)

    slope = sum(
        float((gradient * directions[name]).sum())
        for name, gradient in found.gradients.items()
        if gradient is not None
    )
    expected, uncertainty = ridders(value)
    return bool(abs(slope - expected) <= max(100 * uncertainty, 1e-5 * max(abs(expected), abs(slope)), 1e-9))
