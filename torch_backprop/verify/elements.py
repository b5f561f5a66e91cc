"""Shapes of an error that show in which elements are wrong, and in which inputs an output reaches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from .outcome import random
from .trial import Difference, Trial, distance

SAME = 1e-6
"""Relative error below which a recognised shape fits."""
ZERO = 1e-12
"""Relative size below which a number is the rounding of zero."""
_FEW = 8
"""Places along an axis that are tried one by one."""
_REACH = {
    (True, False): "grad_output of one element reaches inputs that the output there does not depend on: "
    "a mask is forgotten",
    (False, True): "grad_output of one element does not reach all inputs that the output there depends on: "
    "a sum or a path is missing",
    (True, True): "grad_output of one element reaches other inputs than the output there depends on: "
    "an order is reversed, or axes are mixed",
}
"""By whether inputs are reached too many, and too few."""

Recognised = tuple[str, str] | None
"""The class of fault and the words for it."""


def transposed(trial: Trial, difference: Difference) -> Recognised:
    """The truth with two of its axes swapped."""
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.shape != expected.shape:
        return None
    for i, j in combinations(range(expected.dim()), 2):
        if near(seen.reshape(-1), expected.transpose(i, j).reshape(-1)):
            return "transposed-gradient", f"axes {i} and {j} are swapped"
    return None


def masked(trial: Trial, difference: Difference) -> Recognised:
    """Right but for elements that are zero, or should be."""
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.shape != expected.shape:
        return None
    wrong = ~((seen - expected).abs() <= SAME * difference.scale)
    if wrong.all() or (expected[wrong].any() and seen[wrong].any()):
        return None
    why = "are zero" if expected[wrong].any() else "should be zero: a mask or a padding is forgotten"
    return "wrong-gradient", f"right but for {int(wrong.sum())} elements, which {why}"


def misplaced(trial: Trial, difference: Difference) -> Recognised:
    """The gradient of another input."""
    for name, gradient in trial.truth().gradients.items():
        if name != difference.leaf and gradient is not None and near(difference.seen, gradient):
            return "wrong-gradient", f"it is that of {name}: gradients are returned in another order"
    return None


def slip(trial: Trial, difference: Difference) -> Recognised:
    """The ratio to the truth is a factor by rows, by columns, or the quotient of one of each."""
    seen, expected = difference.seen, difference.expected
    if seen is None or seen.dim() < 2 or min(seen.shape[-2:]) < 2 or not expected.all():
        return None
    ratio = (seen / expected).reshape(-1, *seen.shape[-2:])
    separable = ratio * ratio[:, :1, :1]
    if near(separable, ratio[:, :, :1] * ratio[:, :1, :]):
        return "broadcast-slip", "right up to a factor along one axis: a row factor applied to columns"
    return None


def reach(trial: Trial, difference: Difference) -> Recognised:
    """The inputs that the first or the last output element alone reaches are not those that it depends on."""
    leaf, more, fewer = difference.leaf or "", False, False
    for at in (0, -1):
        one = _only(at)
        seen, expected = (o.gradients.get(leaf) for o in (trial.seen(one), trial.truth(one)))
        if seen is None or expected is None or seen.shape != expected.shape:
            return None
        ours, theirs = (x.abs() > ZERO * difference.scale for x in (seen, expected))
        more |= bool((ours & ~theirs).any())
        fewer |= bool((theirs & ~ours).any())
    words = _REACH.get((more, fewer)) if difference.scale > ZERO * difference.error else None
    return None if words is None else ("wrong-gradient", words)


def _only(at: int) -> Callable[[Tensor, int], Tensor]:
    """One element of each output, the first or the last."""

    def one(output: Tensor, position: int) -> Tensor:
        cotangent = torch.zeros(output.numel(), dtype=output.dtype, device=output.device)
        cotangent[at:][:1] = 1
        return cotangent.view(output.shape)

    return one


def reversed(trial: Trial, difference: Difference) -> Recognised:
    """Right if grad_output and gradient are reversed along an axis."""
    for axis in range(-difference.expected.dim(), 0):
        seen = trial.seen(_flipped(axis)).gradients.get(difference.leaf or "")
        if seen is not None and near(seen.flip(axis), difference.expected):
            words = f"right if grad_output and it are both reversed along axis {axis}"
            return "wrong-gradient", f"{words}: it runs forwards where it has to go back"
    return None


def placed(trial: Trial, difference: Difference) -> Recognised:
    """Right or wrong by where along an axis of an output grad_output is, as with a causal mask forgotten."""
    leaf = difference.leaf or ""
    for place, output in enumerate(trial.truth().outputs):
        for axis, size in enumerate(output.shape):
            if not 2 <= size <= _FEW:
                continue
            right = []
            for index in range(size):
                at = _at(place, axis, index)
                truth = trial.truth(at).gradients.get(leaf)
                right.append(truth is None or near(trial.seen(at).gradients.get(leaf), truth))
            if any(right) and not all(right):
                wrong = [index for index in range(size) if not right[index]]
                words = (
                    f"right where grad_output is at some places of axis {axis}, wrong at {wrong} of {size}"
                )
                return "wrong-gradient", f"{words}: a mask, or what the border does, is forgotten"
    return None


def _at(place: int, axis: int, index: int) -> Callable[[Tensor, int], Tensor]:
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


def near(seen: Tensor | None, expected: Tensor | None) -> bool:
    """Whether they are the same to the accuracy at which a shape fits."""
    if seen is None or expected is None or seen.shape != expected.shape:
        return False
    error, scale = distance(seen, expected)
    return error <= SAME * scale
