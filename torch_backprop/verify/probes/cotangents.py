"""Cotangents: other sizes, other layouts, none at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..diagnosis import excerpt
from ..outcome import Cotangent, forward, pull_back, random
from ..probe import probe
from ..shapes import of_precision
from ..trial import Evidence, Trial

Gradients = dict[str, Tensor | None]


def scaled(factor: float) -> Cotangent:
    """The random cotangent, times a factor."""
    return lambda output, position: factor * random(output, position)


def expanded(output: Tensor, position: int) -> Tensor:
    """One number, seen everywhere: what ``sum().backward()`` sends."""
    return random(output.new_empty(()), position).expand(output.shape)


def row_expanded(output: Tensor, position: int) -> Tensor:
    """The first row, seen as every row."""
    return random(output[:1], position).expand(output.shape) if output.dim() else random(output, position)


def strided(output: Tensor, position: int) -> Tensor:
    """Every second number of a longer memory."""
    dense = random(output, position)
    return torch.stack([dense, dense + 1], -1)[..., 0]


def transposed(output: Tensor, position: int) -> Tensor:
    """The memory in the order of the reversed dimensions."""
    dense = random(output, position)
    return dense.permute(*reversed(range(dense.dim()))).contiguous().permute(*reversed(range(dense.dim())))


_SIZES = (("-1000 g", -1e3), ("1e-9 g", 1e-9), ("zero", 0.0))
_LAYOUTS = (
    ("expanded", expanded, expanded),
    ("row-expanded", row_expanded, row_expanded),
    ("strided", strided, random),
    ("transposed", transposed, random),
)
"""Name, cotangent, and one of the same numbers, for which the truth may be known already."""


@probe(sound=True)
def sizes(trial: Trial) -> Iterator[Evidence]:
    """A vector-Jacobian product is linear in the vector."""
    truth, each = trial.truth().gradients, [scaled(factor) for _, factor in _SIZES]
    for (name, factor), cotangent, seen in zip(_SIZES, each, _pulled(trial, each), strict=True):
        if not _agree(trial, seen, truth, factor):
            cause = "a clamp or a square of grad_output"
            yield from _compare(trial, name, cotangent, "cotangent-nonlinear", cause)


@probe(sound=True)
def layouts(trial: Trial) -> Iterator[Evidence]:
    """The layout of grad_output in memory is not its values."""
    each = [cotangent for _, cotangent, _ in _LAYOUTS]
    for (name, cotangent, plain), seen in zip(_LAYOUTS, _pulled(trial, each), strict=True):
        truth = trial.truth(plain)
        if truth.error is None and not _agree(trial, seen, truth.gradients):
            cause = "its memory is read as contiguous"
            yield from _compare(trial, name, cotangent, "cotangent-layout", cause)


@probe(sound=True)
def one_output(trial: Trial) -> Iterator[Evidence]:
    """With several outputs, a loss may use one alone."""
    live = trial.truth().live
    for used in live if len(live) > 1 else ():
        try:
            outputs, leaves, _ = forward(trial.candidate, trial.sample)
            seen = pull_back(outputs, leaves, (used,))
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            yield Evidence(
                "undefined-cotangent",
                words,
                "the reference returns",
                f"output {used} alone is used: the other cotangent is None, or zeros of another shape",
            )
            return
        truth = trial.truth(_alone(used)).gradients
        for name, expected in truth.items():
            if expected is not None and not trial.near(seen.get(name), expected):
                words = f"gradient of {name} where output {used} alone is used"
                yield Evidence("undefined-cotangent", excerpt(seen.get(name)), excerpt(expected), words)


@probe()
def undefined(trial: Trial) -> Iterator[Evidence]:
    """The node that follows may return None for a gradient."""
    try:
        outputs, leaves, _ = forward(trial.candidate, trial.sample)
        cut = tuple(_Cut.apply(y) if y.requires_grad else y for y in outputs)
        pull_back(cut, leaves, trial.truth().live)
    except Exception as error:
        if trial.seen().error is None:
            words = "grad_output is None where the node that follows returns None"
            seen = f"{type(error).__name__}: {error}"
            yield Evidence("undefined-cotangent", seen, "zeros or None", words)


class _Cut(torch.autograd.Function):
    """The identity, whose backward returns None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return None


def _alone(used: int) -> Cotangent:
    return lambda output, position: random(output, position) * (position == used)


def _pulled(trial: Trial, each: Sequence[Cotangent]) -> Iterator[Gradients | None]:
    """The candidate's gradients for each cotangent, all of one call; None where a backward pass raises.

    Where one is not right, only a call of its own can say why.
    """
    try:
        outputs, leaves = trial.once("pulled", lambda: forward(trial.candidate, trial.sample)[:2])
    except Exception:
        outputs, leaves = (), {}
    for cotangent in each:
        try:
            yield pull_back(outputs, leaves, trial.truth().live, cotangent, retain_graph=True)
        except Exception:
            yield None


def _agree(trial: Trial, seen: Gradients | None, truth: Gradients, factor: float = 1.0) -> bool:
    """Whether gradients are so many times the truth's."""
    if seen is None:
        return False
    return all(g is None or trial.agree(seen.get(name), factor * g) for name, g in truth.items())


def _compare(trial: Trial, name: str, cotangent: Cotangent, fault: str, cause: str) -> Iterator[Evidence]:
    seen = trial.seen(cotangent)
    if trial.truth(cotangent).error is not None:
        return
    if seen.error is not None:
        if trial.seen().error is not None:  # whatever the cotangent
            return
        yield Evidence(fault, seen.words, "the reference returns", f"{name} grad_output: {cause}")
        return
    for difference in trial.differences(cotangent):
        if difference.leaf and not trial.excused(difference.leaf):
            # a number that a lower precision holds is exact in it, and its multiples are not
            kind, why = of_precision(trial, difference) or (fault, cause)
            words = f"{difference.what} for a grad_output that is {name}: {why}"
            yield Evidence(kind, excerpt(difference.seen), excerpt(difference.expected), words)
