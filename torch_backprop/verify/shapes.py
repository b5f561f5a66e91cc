"""The shapes that the error of a gradient may have: a function each, which names the fault to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import torch
from torch import Tensor

from .outcome import random
from .samples import resized
from .trial import Difference, Trial, distance

SAME = 1e-6
"""Relative error below which a recognised shape fits."""
_FEW = 8
"""Places along an axis that are tried one by one."""

Recognised = tuple[str, str] | None


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
    if _near(other, seen):
        return "cotangent-ignored", "the same for every grad_output"
    if not _near(trial.seen(_minus_twice).gradients.get(leaf), -2 * seen):
        return "cotangent-nonlinear", "not linear in grad_output: -2 g does not give -2 times the gradient"
    if not _right_for_uniform(trial, leaf):
        return None
    words = "right only if all elements of grad_output are equal"
    if ratio_of(other, seen) is not None:
        return "cotangent-assumed-uniform", words
    return "wrong-gradient", f"{words}: they go to the wrong places, or are mixed"


def _right_for_uniform(trial: Trial, leaf: str) -> bool:
    expected, seen = (o.gradients.get(leaf) for o in (trial.truth(_ones), trial.seen(_ones)))
    return expected is not None and bool(expected.any()) and _near(seen, expected)


def _conjugate(trial: Trial, difference: Difference) -> Recognised:
    """Right where the imaginary parts are zero."""
    if difference.seen is None or not difference.expected.is_complex():
        return None
    real = trial.on(trial.sample.changed("real", "", lambda _, x: x.real.to(x.dtype)))
    leaf = difference.leaf or ""
    truth, seen = (outcome.gradients.get(leaf) for outcome in (real.truth(), real.seen()))
    if truth is None or not _near(seen, truth):
        return None
    return "missing-conjugate", "right for real numbers: a factor of the derivative is not conjugated"


def _one_output(trial: Trial, difference: Difference) -> Recognised:
    live = trial.truth().live
    for dropped in live if len(live) > 1 else ():
        without = _without(dropped)
        if _near(difference.seen, trial.truth(without).gradients.get(difference.leaf or "")):
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


def _transposed(trial: Trial, difference: Difference) -> Recognised:
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.shape != expected.shape:
        return None
    for i, j in combinations(range(expected.dim()), 2):
        if _near(seen.reshape(-1), expected.transpose(i, j).reshape(-1)):
            return "transposed-gradient", f"axes {i} and {j} are swapped"
    return None


def _masked(trial: Trial, difference: Difference) -> Recognised:
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.shape != expected.shape:
        return None
    wrong = ~((seen - expected).abs() <= SAME * difference.scale)
    if wrong.all() or (expected[wrong].any() and seen[wrong].any()):
        return None
    why = "are zero" if expected[wrong].any() else "should be zero: a mask or a padding is forgotten"
    return "wrong-gradient", f"right but for {int(wrong.sum())} elements, which {why}"


def _misplaced(trial: Trial, difference: Difference) -> Recognised:
    for name, gradient in trial.truth().gradients.items():
        if name != difference.leaf and gradient is not None and _near(difference.seen, gradient):
            return "wrong-gradient", f"it is that of {name}: gradients are returned in another order"
    return None


def _slip(trial: Trial, difference: Difference) -> Recognised:
    """The ratio to the truth is a factor by rows, by columns, or the quotient of one of each."""
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.dim() < 2 or min(seen.shape[-2:]) < 2 or not expected.all():
        return None
    ratio = (seen / expected).reshape(-1, *seen.shape[-2:])
    separable = ratio * ratio[:, :1, :1]
    if _near(separable, ratio[:, :, :1] * ratio[:, :1, :]):
        return "broadcast-slip", "right up to a factor along one axis: a row factor applied to columns"
    return None


def _small(trial: Trial, difference: Difference) -> Recognised:
    if difference.relative < 1e-3:
        return "small-error", f"off by a part in {1 / difference.relative:.0f}: an eps or a small term"
    return None


def _reversed(trial: Trial, difference: Difference) -> Recognised:
    for axis in range(-difference.expected.dim(), 0):
        seen = trial.seen(_flipped(axis)).gradients.get(difference.leaf or "")
        if seen is not None and _near(seen.flip(axis), difference.expected):
            words = f"right if grad_output and it are both reversed along axis {axis}"
            return "wrong-gradient", f"{words}: it runs forwards where it has to go back"
    return None


def _placed(trial: Trial, difference: Difference) -> Recognised:
    """Right or wrong by where along an axis of an output grad_output is, as with a causal mask forgotten."""
    leaf = difference.leaf or ""
    for place, output in enumerate(trial.truth().outputs):
        for axis, size in enumerate(output.shape):
            if not 2 <= size <= _FEW:
                continue
            right = []
            for index in range(size):
                at = _only(place, axis, index)
                truth = trial.truth(at).gradients.get(leaf)
                right.append(truth is None or _near(trial.seen(at).gradients.get(leaf), truth))
            if any(right) and not all(right):
                wrong = [index for index in range(size) if not right[index]]
                words = (
                    f"right where grad_output is at some places of axis {axis}, wrong at {wrong} of {size}"
                )
                return "wrong-gradient", f"{words}: a mask, or what the border does, is forgotten"
    return None


RECOGNISERS: tuple[Callable[[Trial, Difference], Recognised], ...] = (
    _missing,
    _not_finite,
    of_precision,
    _conjugate,
    _one_output,
    _cotangent,
    _factor,
    _transposed,
    _misplaced,
    _masked,
    _small,
    _slip,
    _reversed,
    _placed,
)
"""In the order in which they are asked: the first that knows the shape says it."""


def _near(seen: Tensor | None, expected: Tensor | None) -> bool:
    if seen is None or expected is None or seen.shape != expected.shape:
        return False
    error, scale = distance(seen, expected)
    return error <= SAME * scale


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


def _only(place: int, axis: int, index: int) -> Callable[[Tensor, int], Tensor]:
    """A cotangent that is zero but at one index along an axis of one output."""

    def only(output: Tensor, position: int) -> Tensor:
        drawn = random(output, position)
        if position != place:
            return torch.zeros_like(drawn)
        others = [i for i in range(output.shape[axis]) if i != index]
        return drawn.index_fill(axis, torch.tensor(others, device=drawn.device), 0)

    return only


def _flipped(axis: int) -> Callable[[Tensor, int], Tensor]:
    def flipped(output: Tensor, position: int) -> Tensor:
        drawn = random(output, position)
        return drawn.flip(axis) if -axis <= drawn.dim() else drawn

    return flipped
