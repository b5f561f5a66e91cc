"""A trial: a candidate and the truth about it, on one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .outcome import Cotangent, Outcome, forward, random, run
from .rounding import RandomRounding, nudged
from .sample import TINY, Sample
from .spy import Pass, watching
from .target import Target
from .truth import Truth

K = 16
"""Units of rounding (or of the reference's own uncertainty) by which two right gradients may differ."""
_TEN_DIGITS = 1e-10
_UNDERFLOW = 1e-100
DISCONTINUOUS = 1e-3
"""A relative change by a jitter of the last bit which is no rounding: the sample stands on a kink."""
_ROUNDINGS = 4
"""Ways of rounding: once the inputs alone, then every operation."""


T = TypeVar("T")
Needs = tuple[str, ...] | None
"""The leaves that need a gradient; None: all."""
Pick = Callable[[Outcome], Tensor | None]
"""Takes one tensor out of an outcome."""
Note = Callable[[str], None]
"""Hears what could not be judged, or is to be known about a judgement."""


class Evidence(NamedTuple):
    """What a probe saw."""

    fault: str
    seen: str
    expected: str
    diagnosis: str


class Difference(NamedTuple):
    """A tensor of the candidate that is not the truth's; ``seen`` is None where there is no gradient."""

    what: str
    leaf: str | None
    seen: Tensor | None
    expected: Tensor
    error: float
    scale: float

    @property
    def relative(self) -> float:
        """The error over the largest number of the truth."""
        return self.error / self.scale if self.scale else math.inf


@dataclass
class Trial:
    """A candidate against the truth on a sample. Outcomes of the truth are kept and asked for once."""

    candidate: Target
    truth_of: Truth
    sample: Sample
    given: Sample
    mark: Callable[[str], None] = lambda who: None
    note: Note = lambda words: None
    overspent: Callable[[], bool] = lambda: False
    _known: dict[Any, Any] = field(default_factory=dict)

    def on(self, sample: Sample) -> Trial:
        """The same targets on another sample."""
        return replace(self, sample=sample, _known={})

    def with_seen(self, outcome: Outcome) -> Trial:
        """The same, with that for the candidate's outcome."""
        return replace(self, _known={**self._known, ("watched", self.sample.leaves): (outcome, [])})

    def truth(self, cotangent: Cotangent = random, needs: Needs = None) -> Outcome:
        """The truth's outcome."""
        return self.once(("truth", cotangent, needs), lambda: self._truth(cotangent, needs))

    def _truth(self, cotangent: Cotangent, needs: Needs) -> Outcome:
        self.mark("reference")
        found = self.truth_of.outcome(self.sample, cotangent, needs)
        self.mark("candidate")
        return found

    def seen(self, cotangent: Cotangent = random, needs: Needs = None) -> Outcome:
        """The candidate's outcome."""
        if cotangent is random and needs is None:
            return self.watched(self.sample.leaves)[0]
        live = self.truth().live
        return self.once(
            ("seen", cotangent, needs), lambda: run(self.candidate, self.sample, cotangent, needs, live)
        )

    def watched(self, needs: tuple[str, ...]) -> tuple[Outcome, list[Pass]]:
        """The candidate's outcome where those leaves need a gradient, and the backward passes behind it."""

        def work() -> tuple[Outcome, list[Pass]]:
            live = self.truth().live
            with watching() as passes:
                return run(self.candidate, self.sample, needs=needs, live=live), passes

        return self.once(("watched", needs), work)

    def graph(self) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Outputs and leaves of a call of the candidate, to be looked at and not to be differentiated."""
        return self.once("graph", lambda: forward(self.candidate, self.sample)[:2])

    def once(self, key: Hashable, work: Callable[[], T]) -> T:
        """What ``work`` gives on this sample: what one probe has run, the next need not run again."""
        if key not in self._known:
            self._known[key] = work()
        return self._known[key]

    def differences(self, cotangent: Cotangent = random, needs: Needs = None) -> Iterator[Difference]:
        """Where outputs and gradients of the candidate are not the truth's."""
        seen, truth = self.seen(cotangent, needs), self.truth(cotangent, needs)
        for i, (ours, theirs) in enumerate(zip(seen.outputs, truth.outputs, strict=False)):
            yield from self._judge(f"output {i}", None, ours, theirs, lambda o, i=i: o.outputs[i], cotangent)
        for name, theirs in truth.gradients.items():
            if theirs is not None:
                ours = seen.gradients.get(name)
                yield from self._judge(
                    f"gradient of {name}", name, ours, theirs, lambda o, n=name: o.gradients[n], cotangent
                )

    def agree(self, seen: Tensor | None, expected: Tensor | None) -> bool:
        """Whether two outcomes of the candidate itself are the same up to rounding."""
        if expected is None or seen is None:
            return _is_nothing(seen) and _is_nothing(expected)
        if torch.equal(seen, expected):
            return True
        error, scale = distance(seen, expected)
        return error <= K * self._eps(expected) * scale

    def near(self, seen: Tensor | None, expected: Tensor | None) -> bool:
        """Whether a result of candidate and truth is the same to about ten digits."""
        if expected is None or seen is None:
            return _is_nothing(seen) and _is_nothing(expected)
        error, scale = distance(seen, expected)
        return error <= max(_TEN_DIGITS, K * self._eps(expected)) * max(scale, 1e-3)

    def close(self, name: str, seen: Tensor | None, expected: Tensor | None) -> bool:
        """Whether two gradients of ``name`` differ by no more than the truth's moves by rounding."""
        if expected is None or seen is None or self.near(seen, expected):
            return self.near(seen, expected)
        error, scale = distance(seen, expected)
        return self._is_rounding(error, lambda o: o.gradients.get(name), expected, scale, random)

    def excused(self, leaf: str) -> bool:
        """Whether the gradient differs on the sample already, at a kink where it may."""
        return any(difference.leaf == leaf for difference in self.differences())

    def _judge(
        self,
        what: str,
        leaf: str | None,
        seen: Tensor | None,
        expected: Tensor,
        pick: Pick,
        cotangent: Cotangent,
    ) -> Iterator[Difference]:
        found = torch.zeros_like(expected) if seen is None else seen
        if self.agree(found, expected):
            return
        expected = self._saturated(seen, expected)
        if leaf is not None:
            expected = _where_defined(expected, self.sample.tensors[leaf])
        error, scale = distance(found, expected)
        if error <= max(K * self._eps(expected) * scale, self._floor(seen, cotangent)):
            return
        if not self._is_rounding(error, pick, expected, scale, cotangent):
            yield Difference(what, leaf, seen, expected, error, scale)

    def _floor(self, seen: Tensor | None, cotangent: Cotangent) -> float:
        """Rounding of numbers of order one, which is all that is left where a derived sample saturates."""
        if self.sample is self.given and cotangent is random:
            return 0.0
        largest = max((float(x.abs().max()) for x in self._leaves() if x.numel()), default=1.0)
        zero = seen is None or not seen.any()
        if largest < TINY or (zero and self.sample.fault == "untaken-branch"):
            return _UNDERFLOW
        unit = cotangent(torch.ones(1, dtype=self.sample.dtype), 0).abs().max().item()
        return 4 * torch.finfo(self.sample.dtype).eps * min(1.0, unit)

    def _leaves(self) -> list[Tensor]:
        return [self.sample.tensors[name] for name in self.sample.leaves]

    def _saturated(self, seen: Tensor | None, expected: Tensor) -> Tensor:
        """Not a number where the truth has saturated to zero and a tiny number is the better answer."""
        if seen is None or self.sample is self.given or seen.shape != expected.shape:
            return expected
        tiny = (expected == 0) & (seen.abs() <= torch.finfo(torch.float64).eps)
        return torch.where(tiny, torch.nan, expected) if expected.is_floating_point() else expected

    def _eps(self, tensor: Tensor) -> float:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return 0.0
        return max(torch.finfo(tensor.dtype).eps, self.truth_of.uncertainty)

    def _is_rounding(
        self, error: float, pick: Pick, expected: Tensor, scale: float, cotangent: Cotangent
    ) -> bool:
        """Whether the truth moves as much when inputs and cotangent, or all between, move by their last bit.

        The first way of rounding that explains the error is enough; a large error none explains.
        """
        most = DISCONTINUOUS * max(scale, 1e-9)
        for number in range(1 if self.truth_of.numeric else _ROUNDINGS) if error < K * most else ():
            moved = self.once(("moved", cotangent, number), partial(self._moved, cotangent, number))
            found = None if moved.error is not None else pick(moved)
            if found is None:
                continue
            change = distance(found, expected)[0]
            if error <= K * change and change < most:
                return True
        return False

    def _moved(self, cotangent: Cotangent, number: int) -> Outcome:
        """The truth, rounded in another way."""
        if not number:
            nudge = self.sample.changed("", "", lambda _, x: nudged(x))
            return self.truth_of.outcome(nudge, _nudged(cotangent), None)
        with RandomRounding(number - 1):
            return self.truth_of.outcome(self.sample, cotangent, None)


def distance(seen: Tensor, expected: Tensor) -> tuple[float, float]:
    """The largest error and the largest number, over the elements where the truth is finite."""
    if seen.shape != expected.shape:
        return math.inf, 1.0
    finite = expected.isfinite()
    if not finite.all():
        seen, expected = seen[finite], expected[finite]
    if not expected.numel():
        return 0.0, 0.0
    if not expected.is_floating_point() and not expected.is_complex():
        return float((seen != expected).sum()), 1.0
    wide = torch.complex128 if expected.is_complex() or seen.is_complex() else torch.float64
    error = (seen.to(wide) - expected.to(wide)).abs().max().item()
    return (math.inf if math.isnan(error) else error), expected.abs().max().item()


def _where_defined(expected: Tensor, leaf: Tensor) -> Tensor:
    """Not a number where the input is infinite or not a number: there no gradient is right."""
    return expected if bool(leaf.isfinite().all()) else torch.where(leaf.isfinite(), expected, torch.nan)


def _nudged(cotangent: Cotangent) -> Cotangent:
    return lambda output, position: nudged(cotangent(output, position))


def _is_nothing(tensor: Tensor | None) -> bool:
    return tensor is None or not tensor.any()
