"""torch.func, forward mode and torch.compile: right, or a loud refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..diagnosis import excerpt
from ..outcome import SEED, pull_back, random
from ..probe import probe
from ..target import Target
from ..trial import Evidence, Trial

_BATCH = 3

Transform = Callable[[Trial, Target], dict[str, Tensor]]


def functional(trial: Trial, target: Target) -> Callable[..., Tensor]:
    """The pairing of outputs and cotangents, as a pure function of the leaves."""
    live = trial.truth().live
    weights = {i: random(y, i) for i, y in enumerate(trial.truth().outputs)}

    def cost(*leaves: Tensor) -> Tensor:
        outputs = _outputs(trial, target, leaves)
        return torch.stack([(outputs[i] * weights[i]).sum() for i in live]).sum()

    return cost


def _outputs(trial: Trial, target: Target, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    call = trial.sample.holding(leaves, spare=target.spare)
    torch.manual_seed(SEED)
    return target.outputs(call.args, call.state, trial.sample.training)


def _gradient(trial: Trial, target: Target) -> dict[str, Tensor]:
    leaves = _leaves(trial)
    found = torch.func.grad(functional(trial, target), tuple(range(len(leaves))))(*leaves)
    return dict(zip(trial.sample.leaves, found, strict=True))


def _mapped(trial: Trial, target: Target) -> dict[str, Tensor]:
    leaves = [torch.stack([x * (1 + 0.1 * i) for i in range(_BATCH)]) for x in _leaves(trial)]
    gradient = torch.func.grad(functional(trial, target), tuple(range(len(leaves))))
    found = torch.func.vmap(gradient, randomness="same")(*leaves)
    return dict(zip(trial.sample.leaves, found, strict=True))


def _tangent(trial: Trial, target: Target) -> dict[str, Tensor]:
    with forward_ad.dual_level():
        duals = tuple(forward_ad.make_dual(x, random(x, 9 + i)) for i, x in enumerate(_leaves(trial)))
        outputs = _outputs(trial, target, duals)
        tangents = [forward_ad.unpack_dual(outputs[i]).tangent for i in trial.truth().live]
        live = zip(trial.truth().live, tangents, strict=True)
        return {f"output {i}": outputs[i].new_zeros(()) if t is None else t for i, t in live}


def _leaves(trial: Trial) -> tuple[Tensor, ...]:
    return tuple(trial.sample.tensors[name].clone() for name in trial.sample.leaves)


def _held(trial: Trial, transform: Transform, refusal: str, silent: str, what: str) -> Iterator[Evidence]:
    if trial.truth_of.numeric:
        return
    try:
        expected = transform(trial, trial.truth_of.target)
    except Exception:
        return
    try:
        seen = transform(trial, trial.candidate)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Evidence(refusal, words, f"a value of {what}", f"{what} raises")
        return
    for name, wanted in expected.items():
        if not trial.near(seen[name], wanted):
            yield Evidence(
                silent, excerpt(seen[name]), excerpt(wanted), f"{what} of {name} is silently wrong"
            )
            return


@probe(quick=False, sound=True)
def func_grad(trial: Trial) -> Iterator[Evidence]:
    """torch.func.grad."""
    return _held(trial, _gradient, "no-torch-func", "torch-func-wrong", "torch.func.grad")


@probe(quick=False, sound=True)
def mapped(trial: Trial) -> Iterator[Evidence]:
    """torch.func.vmap of torch.func.grad."""
    return _held(trial, _mapped, "no-vmap", "torch-func-wrong", "torch.func.vmap of grad")


@probe(quick=False)
def tangents(trial: Trial) -> Iterator[Evidence]:
    """Forward mode."""
    return _held(trial, _tangent, "no-forward-mode", "forward-mode-wrong", "forward mode")


@probe(quick=False, compiles=True)
def compiled(trial: Trial) -> Iterator[Evidence]:
    """Compiled, the candidate gives its own eager numbers."""
    if trial.seen().error is not None:
        return
    try:
        outputs, gradients = _compiled(trial)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Evidence("no-compile", words, "a graph", "torch.compile(fullgraph=True) raises")
        return
    pairs: list[Any] = [
        (f"output {i}", *pair) for i, pair in enumerate(zip(outputs, trial.seen().outputs, strict=False))
    ]
    pairs += [(f"gradient of {name}", g, trial.seen().gradients[name]) for name, g in gradients.items()]
    for name, found, wanted in pairs:
        if not trial.near(found, wanted):
            words = f"{name} under torch.compile is not the eager one"
            yield Evidence("compiled-wrong", excerpt(found), excerpt(wanted), words)
            return


def _compiled(trial: Trial) -> tuple[tuple[Tensor, ...], dict[str, Tensor | None]]:
    torch._dynamo.reset()
    call = trial.sample.fresh(spare=trial.candidate.spare)
    torch.manual_seed(SEED)
    outputs = trial.candidate.compiled().outputs(call.args, call.state, trial.sample.training)
    return outputs, pull_back(outputs, call.leaves, trial.truth().live)
