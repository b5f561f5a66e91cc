"""The gradient of the gradient: right, or a loud refusal."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..diagnosis import excerpt
from ..differences import ridders
from ..engine import accumulate, gradients
from ..outcome import forward, pull_back, random, run
from ..probe import probe
from ..target import Target
from ..trial import Evidence, Trial

_SILENT = "silently detached: differentiated as a constant, or residuals saved as constants"


@probe(sound=True)
def double_backward(trial: Trial) -> Iterator[Evidence]:
    """Second gradients, of the leaves and of grad_output."""
    if trial.truth_of.numeric:
        return
    try:
        expected = _second(trial, trial.truth_of.target)
    except Exception:
        return
    try:
        seen = _second(trial, trial.candidate)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Evidence("no-double-backward", words, "a second gradient", "create_graph=True raises")
        return
    for name, wanted in expected.items():
        found = seen.get(name)
        if trial.near(found, wanted):
            continue
        if _is_reference_off(trial, name, found, wanted):
            trial.note(f"the reference's own second gradient of {name} is wrong")
            continue
        why = _SILENT if found is None or not found.any() else "a term is missing, or a residual is detached"
        words = f"second gradient of {name}: {why}"
        yield Evidence("double-backward-wrong", excerpt(found), excerpt(wanted), words)
        return


@probe(every=True, quick=False, sound=True)
def with_graph(trial: Trial) -> Iterator[Evidence]:
    """The first gradient does not depend on whether a graph of it is recorded."""
    if trial.seen().error is not None:
        return
    try:
        outputs, leaves, _ = forward(trial.candidate, trial.sample)
        recorded = pull_back(outputs, leaves, trial.truth().live, create_graph=True)
    except Exception:  # no double backward: another probe says so
        return
    for name, found in recorded.items():
        wanted = trial.seen().gradients.get(name)
        if not trial.close(name, found, wanted):
            words = f"gradient of {name} with create_graph=True is not that without"
            yield Evidence("double-backward-wrong", excerpt(found), excerpt(wanted), words)


@probe(sound=True, quick=False)
def saturated(trial: Trial) -> Iterator[Evidence]:
    """The second gradient of large inputs is finite where the reference's is."""
    leaf = trial.sample.leaves[0]
    judged = trial.sample.dtype.is_floating_point and not trial.truth_of.numeric
    for shift in (800.0, -800.0) if judged else ():
        moved = trial.on(
            trial.sample.changed(f"{shift:+g} {leaf}", "", lambda _, x, by=shift: x + by, (leaf,))
        )
        try:
            expected = _second(moved, trial.truth_of.target)
            seen = _second(moved, trial.candidate)
        except Exception:
            continue
        for name, wanted in expected.items():
            found = seen.get(name)
            odd = found is not None and wanted is not None and (wanted.isfinite() & ~found.isfinite()).any()
            if odd:
                words = f"second gradient of {name} is not finite at {shift:+g}"
                yield Evidence("overflow-nan", excerpt(found), excerpt(wanted), words)


def _second(trial: Trial, target: Target) -> dict[str, Tensor | None]:
    """Gradients of a pairing of the gradients, by ``backward``: ``grad`` is silent about refusals."""
    outputs, leaves, _ = forward(target, trial.sample)
    live = [(i, outputs[i]) for i in trial.truth().live if outputs[i].requires_grad]
    cotangents = [random(y.detach(), i).requires_grad_() for i, y in live]
    first = gradients([y for _, y in live], tuple(leaves.values()), cotangents, create_graph=True)
    onward = [(i, g) for i, g in enumerate(first) if g is not None and g.requires_grad]
    if onward:
        accumulate([g for _, g in onward], [_upon(g.detach(), i) for i, g in onward])
    named = leaves | {_named(i): g for (i, _), g in zip(live, cotangents, strict=True)}
    return {name: x.grad for name, x in named.items()}


def _upon(gradient: Tensor, position: int) -> Tensor:
    """What a gradient is paired with."""
    return random(gradient, 50 + position)


def _named(position: int) -> str:
    return f"grad_output {position}"


def _is_reference_off(trial: Trial, name: str, seen: Tensor | None, expected: Tensor | None) -> bool:
    """Whether the slope of the first gradient, on which both agree, is the candidate's second alone."""
    if seen is None or expected is None or seen.dtype != torch.float64:
        return False
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(seen.shape, generator=generator, dtype=seen.dtype).to(seen.device)

    def value(step: float) -> Tensor:
        def moved(y: Tensor, i: int = 0) -> Tensor:
            return random(y, i) + step * direction if name == _named(i) else random(y, i)

        sample = trial.sample
        if name in sample.leaves:
            sample = sample.changed("", "", lambda _, x: x + step * direction, (name,))
        found = run(trial.candidate, sample, moved, None, trial.truth().live)
        terms = enumerate(found.gradients.values())
        return torch.stack([(g * _upon(g, i)).sum() for i, g in terms if g is not None]).sum()

    slope, uncertainty = ridders(value)
    ours, theirs = (abs(float((g * direction).sum()) - slope) for g in (seen, expected))
    return bool(10 * max(ours, uncertainty) < theirs)
