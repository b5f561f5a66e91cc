"""torch.func, forward mode and torch.compile: right, or a loud refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..diagnosis import excerpt
from ..outcome import pull_back, random, run
from ..probe import probe
from ..sample import Sample
from ..settings import seed
from ..target import Target
from ..trial import Evidence, Trial

_BATCH = 3

Transform = Callable[[Trial, Target], dict[str, Tensor]]


@probe(quick=False, sound=True)
def func_grad(trial: Trial) -> Iterator[Evidence]:
    """torch.func.grad gives the gradient of the eager backward pass."""
    expected = {name: g for name, g in trial.seen().gradients.items() if g is not None}
    yield from _held(trial, _gradient, expected, "no-torch-func", "torch-func-wrong", "torch.func.grad")


@probe(quick=False, sound=True)
def mapped(trial: Trial) -> Iterator[Evidence]:
    """torch.func.vmap of the candidate and of its torch.func.grad give what the calls give one by one."""
    each = [run(trial.candidate, _scaled(trial.sample, i), live=trial.truth().live) for i in range(_BATCH)]
    if any(one.error is not None for one in each):
        return
    expected = {
        name: torch.stack([one.gradients[name] for one in each])  # pyright: ignore[reportArgumentType]
        for name in trial.sample.leaves
        if all(one.gradients[name] is not None for one in each)
    }
    for i in trial.truth().live:
        expected[f"output {i}"] = torch.stack([one.outputs[i] for one in each])
    yield from _held(trial, _mapped, expected, "no-vmap", "torch-func-wrong", "torch.func.vmap")


@probe(quick=False, sound=True)
def tangents(trial: Trial) -> Iterator[Evidence]:
    """Forward mode: the same Jacobian as reverse mode's, by <jvp(v), g> = <v, vjp(g)>."""
    pairing = _leaves(trial.sample)[0].new_zeros(())
    for i, (name, gradient) in enumerate(trial.seen().gradients.items()):
        if gradient is not None:
            pairing = pairing + (gradient * _direction(trial.sample.tensors[name], i).conj()).sum().real
    expected = {"the outputs, paired with grad_output": pairing}
    yield from _held(trial, _tangent, expected, "no-forward-mode", "forward-mode-wrong", "forward mode")


@probe(quick=False, sound=True)
def nested_tangents(trial: Trial) -> Iterator[Evidence]:
    """Forward mode over forward mode, which torch silently makes 0 for a Function with a plain jvp."""
    if trial.truth_of.numeric or trial.sample.dtype != torch.float64:
        return
    try:
        _tangent(trial, trial.candidate)
        step = trial.sample.tensors[trial.sample.leaves[0]].new_zeros((), requires_grad=True)
        (slope,) = torch.autograd.grad(_along(trial, trial.truth_of.target)(step), step, create_graph=True)
        expected = {"the outputs, along one line": torch.autograd.grad(slope, step)[0]}
    except Exception:  # no forward mode at all, or no second derivative that could be the truth
        return
    yield from _held(
        trial, _nested, expected, "no-forward-mode", "forward-mode-wrong", "a torch.func.jvp of a jvp"
    )


def _held(
    trial: Trial, transform: Transform, expected: dict[str, Tensor], refusal: str, silent: str, what: str
) -> Iterator[Evidence]:
    own = expected
    if trial.truth_of.judges_forward:
        try:
            own = transform(trial, trial.truth_of.target)
        except Exception:
            return
    try:
        seen = transform(trial, trial.candidate)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Evidence(refusal, words, f"a value of {what}", f"{what} raises")
        return
    for name, wanted in expected.items():
        # torch's own jvp of a jvp is wrong for the normalizations: what the reference does is no finding
        if trial.near(own[name], wanted) and not trial.near(seen[name], wanted):
            words = f"{what} of {name} is silently wrong"
            yield Evidence(silent, excerpt(seen[name]), excerpt(wanted), words)
            return


def _cost(trial: Trial, target: Target) -> Callable[..., Tensor]:
    """The pairing of outputs and cotangents, as a pure function of the leaves."""
    weights = {i: random(trial.truth().outputs[i], i) for i in trial.truth().live}

    def cost(*leaves: Tensor) -> Tensor:
        outputs = _outputs(trial, target, leaves)
        # autograd's gradient of a complex function is that of the real part of the pairing
        return torch.stack([(outputs[i] * g.conj()).sum().real for i, g in weights.items()]).sum()

    return cost


def _outputs(trial: Trial, target: Target, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    call = trial.sample.holding(leaves, spare=target.spare)
    seed()
    return target.outputs(call.args, call.state, trial.sample.training)


def _gradient(trial: Trial, target: Target) -> dict[str, Tensor]:
    leaves = _leaves(trial.sample)
    found = torch.func.grad(_cost(trial, target), tuple(range(len(leaves))))(*leaves)
    return dict(zip(trial.sample.leaves, found, strict=True))


def _mapped(trial: Trial, target: Target) -> dict[str, Tensor]:
    rows = [_leaves(_scaled(trial.sample, i)) for i in range(_BATCH)]
    leaves = [torch.stack(same) for same in zip(*rows, strict=True)]
    gradient = torch.func.grad(_cost(trial, target), tuple(range(len(leaves))))
    found = torch.func.vmap(gradient, randomness="same")(*leaves)

    def forward(*x: Any) -> Any:
        return _outputs(trial, target, x)

    outputs = torch.func.vmap(forward, randomness="same")(*leaves)
    values = {f"output {i}": outputs[i] for i in trial.truth().live}
    return dict(zip(trial.sample.leaves, found, strict=True)) | values


def _tangent(trial: Trial, target: Target) -> dict[str, Tensor]:
    with forward_ad.dual_level():
        leaves = enumerate(_leaves(trial.sample))
        duals = tuple(forward_ad.make_dual(x, _direction(x, i)) for i, x in leaves)
        outputs = _outputs(trial, target, duals)
        total = _leaves(trial.sample)[0].new_zeros(())
        for i in trial.truth().live:
            tangent = forward_ad.unpack_dual(outputs[i]).tangent
            if tangent is not None:
                total = total + (tangent * random(outputs[i], i).conj()).sum().real
        return {"the outputs, paired with grad_output": total}


def _along(trial: Trial, target: Target) -> Callable[[Tensor], Tensor]:
    """The cost along a line through the sample."""
    cost = _cost(trial, target)
    leaves = [(x, _direction(x, i)) for i, x in enumerate(_leaves(trial.sample))]
    return lambda step: cost(*(x + step * direction for x, direction in leaves))


def _nested(trial: Trial, target: Target) -> dict[str, Tensor]:
    along = _along(trial, target)
    first = _leaves(trial.sample)[0]
    start, unit = first.new_zeros(()), first.new_ones(())

    def slope(step: Tensor) -> Tensor:
        return torch.func.jvp(along, (step,), (unit,))[1]

    return {"the outputs, along one line": torch.func.jvp(slope, (start,), (unit,))[1]}


def _scaled(sample: Sample, i: int) -> Sample:
    return sample.changed("", "", lambda _, x: x * (1 + 0.1 * i))


def _direction(leaf: Tensor, i: int) -> Tensor:
    return random(leaf, 9 + i)


def _leaves(sample: Sample) -> tuple[Tensor, ...]:
    return tuple(sample.tensors[name].clone() for name in sample.leaves)


@probe(quick=False, compiles=True)
def compiled(trial: Trial) -> Iterator[Evidence]:
    """Compiled, the candidate gives its own eager numbers."""
    if trial.seen().error is not None:
        return
    try:
        outputs, gradients = _compiled(trial, trial.candidate)
    except Exception as error:
        if trial.truth_of.judges_forward and not _compiles(trial, trial.truth_of.target):
            return
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


def _compiles(trial: Trial, target: Target) -> bool:
    try:
        _compiled(trial, target)
    except Exception:
        return False
    return True


def _compiled(trial: Trial, target: Target) -> tuple[tuple[Tensor, ...], dict[str, Tensor | None]]:
    torch._dynamo.reset()
    call = trial.sample.fresh(spare=target.spare)
    seed()
    outputs = replace(target, compiled=True).outputs(call.args, call.state, trial.sample.training)
    return outputs, pull_back(outputs, call.leaves, trial.truth().live)
