"""What autograd asks beyond numbers: nothing written, aliased, wasted, repaired or left changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..engine import accumulate, gradients
from ..outcome import pull_back, random
from ..probe import probe
from ..sample import Call, describe
from ..settings import seed
from ..spy import address, same_numbers, watching
from ..target import Target
from ..trial import Evidence, Trial


@probe(every=True)
def repairs(trial: Trial) -> Iterator[Evidence]:
    """The engine sums a gradient of a wider shape, and casts one of another dtype, without a word.

    With a dimension more, what was broadcast on the sample as given must be summed over one axis more.
    """
    if trial.sample is trial.given:
        least, where = None, ""
    elif trial.sample.fault == "extra-dimension":
        least = max(x.dim() for x in trial.given.inputs.values())
        where = f", on the sample {trial.sample.name}"
    else:
        return
    for seen in trial.watched(trial.sample.leaves)[1]:
        for i, gradient, wanted in seen.repaired():
            if least is None or len(wanted.shape) < least:
                yield from _repaired(i, gradient, wanted, where)


def _repaired(i: int, gradient: Tensor, wanted: Any, where: str) -> Iterator[Evidence]:
    if tuple(gradient.shape) != tuple(wanted.shape):
        seen, expected = str(tuple(gradient.shape)), str(tuple(wanted.shape))
        words = f"gradient {i} is returned unreduced over broadcast dimensions{where}"
        yield Evidence("missing-reduction", seen, expected, words)
    elif gradient.dtype != wanted.dtype:
        words = f"gradient {i} is returned in another dtype than its input{where}"
        yield Evidence("wrong-dtype", str(gradient.dtype), str(wanted.dtype), words)


@probe()
def written(trial: Trial) -> Iterator[Evidence]:
    """Neither pass writes into what it was given, unless it was asked to work in place."""
    if trial.seen().error is not None:
        return
    seen = _written(trial, trial.candidate)
    # the candidate's own forward, run as truth, writes into its inputs too
    judged = seen and trial.truth_of.judges_forward
    allowed = _written(trial, trial.truth_of.target) if judged else set()
    for fault, what in sorted(seen - allowed):
        yield Evidence(fault, "other numbers afterwards", "left as it was", f"{what} is written into")


def _written(trial: Trial, target: Target) -> set[tuple[str, str]]:
    """What is written into, with the class of fault that it is."""
    call = trial.sample.fresh(spare=target.spare)
    given = {**dict(zip(trial.sample.inputs, _tensors(call.args), strict=True)), **_parameters(trial, call)}
    before = {name: x.detach().clone() for name, x in given.items()}
    seed()
    outputs = target.outputs(call.args, call.state, trial.sample.training)
    changed = [] if target.spare else _changed(before, given)
    found = {("input-mutated", f"{name}, in forward,") for name in changed}
    before = {name: x.detach().clone() for name, x in given.items()}
    results = [y.detach().clone() for y in outputs]
    cotangents = [random(y.detach(), i) for i, y in enumerate(outputs) if y.requires_grad]
    kept = [g.clone() for g in cotangents]
    live = [y for y in outputs if y.requires_grad]
    if not live:
        return found
    with watching(writes=True) as passes:
        gradients(live, tuple(call.leaves.values()), cotangents)
    found |= {("input-mutated", f"{n}, in backward,") for n in _changed(before, given)}
    if not all(map(same_numbers, results, outputs)):
        found.add(("saved-tensor-overwritten", "the output, in backward,"))
    names = {name for seen in passes for name in seen.written}
    if "grad_output" in names or not all(map(same_numbers, kept, cotangents)):
        found.add(("cotangent-mutated", "grad_output"))
    if "saved tensor" in names:
        found.add(("saved-tensor-overwritten", "a saved tensor"))
    return found


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(args) if isinstance(x, Tensor)]


def _parameters(trial: Trial, call: Call) -> dict[str, Tensor]:
    return {name: x for name, x in call.state.items() if name in trial.sample.leaves}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    return [name for name, x in before.items() if not same_numbers(x, after[name].detach())]


@probe()
def aliases(trial: Trial) -> Iterator[Evidence]:
    """Outputs and .grad have memory of their own, where the reference's have."""
    if trial.seen().error is not None:
        return
    seen = _shared(trial, trial.candidate)
    truth = _shared(trial, trial.truth_of.target) if seen else set()
    for fault, what in sorted(seen - truth):
        yield Evidence(fault, "shared memory", "memory of its own", what)


def _shared(trial: Trial, target: Target) -> set[tuple[str, str]]:
    call = trial.sample.fresh(spare=target.spare)
    seed()
    outputs = target.outputs(call.args, call.state, trial.sample.training)
    inputs = {address(x): name for name, x in zip(trial.sample.inputs, _tensors(call.args), strict=True)}
    found = set()
    for i, y in enumerate(outputs):
        if address(y) in inputs and address(y):
            found.add(("output-aliases-input", f"output {i} shares the memory of {inputs[address(y)]}"))
    live = [y for y in outputs if y.requires_grad]
    cotangents = [random(y.detach(), i) for i, y in enumerate(live)]
    if live:
        accumulate(live, cotangents)
    others = (
        {address(g): "grad_output" for g in cotangents} | inputs | {address(y): "an output" for y in outputs}
    )
    for name, leaf in call.leaves.items():
        if leaf.grad is not None and address(leaf.grad) and address(leaf.grad) in others:
            shares = others[address(leaf.grad)]
            found.add(("gradient-aliases", f"the gradient of {name} shares the memory of {shares}"))
    return found


@probe()
def changed_between(trial: Trial) -> Iterator[Evidence]:
    """A tensor changed between the passes: an error, or still the right gradient."""
    if trial.seen().error is not None:
        return
    for name in trial.sample.inputs:
        seen = _changed_between(trial, trial.candidate, name)
        if seen is None or _changed_between(trial, trial.truth_of.target, name) is not None:
            continue
        words = f"{name} is changed between forward and backward: kept on ctx, by .data or detached"
        yield Evidence("unguarded-save", "another gradient", "RuntimeError, or the same gradient", words)


def _changed_between(trial: Trial, target: Target, name: str) -> str | None:
    """The leaf whose gradient silently changed."""
    try:
        call = trial.sample.fresh(spare=True)
        seed()
        outputs = target.outputs(call.args, call.state, trial.sample.training)
        with torch.no_grad():
            place = list(trial.sample.inputs).index(name)
            tensor = _tensors(call.args)[place]
            tensor.copy_(tensor.flip(0) * 3 if tensor.is_floating_point() and tensor.dim() else tensor * 0)
        found = pull_back(outputs, call.leaves, trial.truth().live)
    except Exception:
        return None
    own = trial.seen().gradients if target is trial.candidate else trial.truth().gradients
    return next((n for n, g in found.items() if not trial.agree(g, own.get(n))), None)


@probe()
def unmarked(trial: Trial) -> Iterator[Evidence]:
    """A mask or an index is no differentiable output."""
    try:
        outputs, _ = trial.graph()
    except Exception:
        return
    for i, y in enumerate(outputs):
        if y.requires_grad and i not in trial.truth().live and trial.truth().live:
            words = (
                f"output {i} ({describe(y)}) is no function of the inputs: mark_non_differentiable is missing"
            )
            yield Evidence("unmarked-output", "requires grad", "does not", words)
