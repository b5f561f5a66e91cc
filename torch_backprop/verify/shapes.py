"""The shapes that the error of a gradient may have: a function each, which names the fault to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .elements import (
    SAME,
    ZERO,
    Recognised,
    masked,
    misplaced,
    near,
    placed,
    reach,
    reversed,
    slip,
    transposed,
)
from .outcome import random
from .samples import resized
from .trial import Difference, Trial, distance


def _missing(trial: Trial, difference: Difference) -> Recognised:
    if difference.seen is None:
        return "missing-gradient", "None: backward returns no gradient for it"
    return None if difference.seen.any() else ("missing-gradient", "zero everywhere")


def _not_finite(trial: Trial, difference: Difference) -> Recognised:
    seen = difference.seen
    if seen is None or bool((seen.isfinite() | ~difference.expected.isfinite()).all()):
        return None
    leaf = trial.sample.tensors[difference.leaf or trial.sample.leaves[0]]
    return "nan-at-kink" if not leaf.all() else "overflow-nan", "not finite"


def _cotangent(trial: Trial, difference: Difference) -> Recognised:
    """Independence of grad_output, or a dependence that is not linear."""
    leaf, seen = difference.leaf or "", difference.seen
    other = trial.seen(_another).gradients.get(leaf)
    if other is None or seen is None:
        return None
    if near(other, seen):
        return "cotangent-ignored", "the same for every grad_output"
    if not near(trial.seen(_minus_twice).gradients.get(leaf), -2 * seen):
        return "cotangent-nonlinear", "not linear in grad_output: -2 g does not give -2 times the gradient"
    if not _right_for_uniform(trial, leaf, difference.scale):
        return None
    words = "right only if all elements of grad_output are equal"
    if ratio_of(other, seen) is not None:
        return "cotangent-assumed-uniform", words
    return "wrong-gradient", f"{words}: they go to the wrong places, or are mixed"


def _right_for_uniform(trial: Trial, leaf: str, scale: float) -> bool:
    """Of the rounding of zero, as that of softmax is, nothing can be said."""
    expected, seen = (o.gradients.get(leaf) for o in (trial.truth(_ones), trial.seen(_ones)))
    return expected is not None and distance(expected, expected)[1] > ZERO * scale and near(seen, expected)


def _conjugate(trial: Trial, difference: Difference) -> Recognised:
    """Right where the imaginary parts are zero."""
    if difference.seen is None or not difference.expected.is_complex():
        return None
    real = trial.on(trial.sample.changed("real", "", lambda _, x: x.real.to(x.dtype)))
    leaf = difference.leaf or ""
    truth, seen = (outcome.gradients.get(leaf) for outcome in (real.truth(), real.seen()))
    if truth is None or not near(seen, truth):
        return None
    return "missing-conjugate", "right for real numbers: a factor of the derivative is not conjugated"


def _one_output(trial: Trial, difference: Difference) -> Recognised:
    live = trial.truth().live
    for dropped in live if len(live) > 1 else ():
        without = _without(dropped)
        if near(difference.seen, trial.truth(without).gradients.get(difference.leaf or "")):
            return "second-output-ignored", f"the cotangent of output {dropped} is not used"
    return None


def of_precision(trial: Trial, difference: Difference) -> Recognised:
    """A gradient that went through integers, or through a lower precision."""
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.dtype != torch.float64:
        return None
    if bool((seen == seen.round()).all()) and not bool((expected == expected.round()).all()):
        return "rounded-gradient", "every element is an integer"
    single = bool((seen.float().double() == seen).all())
    if difference.relative < (1e-3 if single else 5e-7):
        return "float32-inside", "float64 gradient with the accuracy of a lower precision"
    return None


def _factor(trial: Trial, difference: Difference) -> Recognised:
    """A multiple of the truth; which multiple tells which factor was forgotten."""
    ratio = ratio_of(difference.seen, difference.expected)
    if ratio is None:
        return None
    if abs(ratio - 1) < 1e-3:
        return "small-error", f"{ratio:.9g} times the truth: an eps or a small term"
    for what, size in _sizes(trial):
        for form, value in _forms(what, size):
            if abs(ratio / value - 1) < SAME and not _stays(trial, difference, size, ratio):
                return "size-factor", f"{form} times the truth: mean for sum, or the reverse"
    return "constant-factor", f"{ratio:.6g} times the truth"


def ratio_of(seen: Tensor | None, expected: Tensor | None) -> float | None:
    """The constant by which they differ, if they do by a constant."""
    if seen is None or expected is None or seen.shape != expected.shape:
        return None
    if seen.is_complex() != expected.is_complex():
        return None
    seen, expected = _wide(torch.where(expected.isfinite(), seen, 0)), _wide(expected)
    if not expected.any():
        return None
    ratio = float((seen * expected).sum() / (expected * expected).sum())
    error, scale = distance(seen, ratio * expected)
    return ratio if ratio and error <= SAME * scale else None


def _stays(trial: Trial, difference: Difference, size: int, ratio: float) -> bool:
    """Whether the factor is the same where the size is another: then it is no size."""
    lengths = [n for x in trial.sample.inputs.values() for n in x.shape]
    axis = size if size in lengths else max(lengths, default=1)
    other = trial.on(resized(trial.sample, axis, axis + 1))
    if other.truth().error is not None:
        return False
    leaf = difference.leaf or ""
    again = ratio_of(other.seen().gradients.get(leaf), other.truth().gradients.get(leaf))
    return again is not None and abs(again / ratio - 1) < SAME


def _sizes(trial: Trial) -> Iterator[tuple[str, int]]:
    """Every size that a formula might divide by, the sample's batch first."""
    known = {1, 2}
    tensors = [*trial.sample.inputs.values(), *trial.truth().outputs]
    for tensor in tensors:
        sizes = [(f"size {n} of axis {i}", n) for i, n in enumerate(tensor.shape)]
        for what, size in [*sizes, (f"numel {tensor.numel()}", tensor.numel())]:
            if size not in known:
                known.add(size)
                yield what.replace("size", "batch size", 1) if what.endswith("axis 0") else what, size


def _forms(what: str, n: int) -> Iterator[tuple[str, float]]:
    for sign, mark in ((1, ""), (-1, "-")):
        yield f"{mark}{n} ({what})", sign * n
        yield f"{mark}1/{n} ({what})", sign / n
        yield f"{mark}{n - 1}/{n} ({what})", sign * (n - 1) / n
        yield f"{mark}{n}/{n - 1} ({what})", sign * n / (n - 1)


def _small(trial: Trial, difference: Difference) -> Recognised:
    if difference.relative < 1e-3:
        return "small-error", f"off by a part in {1 / difference.relative:.0f}: an eps or a small term"
    return None


RECOGNISERS: tuple[Callable[[Trial, Difference], Recognised], ...] = (
    _missing,
    _not_finite,
    of_precision,
    _conjugate,
    _one_output,
    _cotangent,
    _factor,
    transposed,
    misplaced,
    masked,
    _small,
    slip,
    reversed,
    placed,
    reach,
)
"""In the order in which they are asked: the first that knows the shape says it."""


def _wide(tensor: Tensor) -> Tensor:
    """As real numbers in float64; zero where not finite."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.double().nan_to_num(0, 0, 0)


def _ones(output: Tensor, position: int) -> Tensor:
    return torch.ones_like(output)


def _another(output: Tensor, position: int) -> Tensor:
    return random(output, position + 100)


def _minus_twice(output: Tensor, position: int) -> Tensor:
    return -2 * random(output, position)


def _without(dropped: int) -> Callable[[Tensor, int], Tensor]:
    return lambda output, position: random(output, position) * (position != dropped)
