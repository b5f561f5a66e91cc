"""Calls that follow, interleave or repeat one another: everything of a call belongs to its ctx."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..diagnosis import excerpt
from ..outcome import Outcome, forward, pull_back, run
from ..probe import probe
from ..sample import Sample
from ..settings import generators, restore, seed, settings
from ..spy import same_numbers
from ..trial import Evidence, Trial


class _Again(NamedTuple):
    """Another call: its outcome, and torch's settings before and after."""

    outcome: Outcome
    before: dict[str, object]
    after: dict[str, object]


@probe()
def repeated(trial: Trial) -> Iterator[Evidence]:
    """The same call with the same random numbers gives the same."""
    if trial.seen().error is None:
        again = _again(trial).outcome
        yield from _unequal(trial, again, "nondeterministic", "the same call again gives another {}")


@probe()
def globals_kept(trial: Trial) -> Iterator[Evidence]:
    """A call leaves torch's settings as it found them."""
    again = _again(trial)
    for name, value in again.before.items() if again.outcome.error is None else ():
        if again.after[name] != value:
            seen, expected = f"{name} = {again.after[name]}", f"{name} = {value}"
            yield Evidence("global-state", seen, expected, "is left changed")


def _again(trial: Trial) -> _Again:
    def work() -> _Again:
        before = settings()
        outcome = run(trial.candidate, trial.sample, live=trial.truth().live)
        again = _Again(outcome, before, settings())
        restore(before)
        return again

    return trial.once("again", work)


class _Passes(NamedTuple):
    """Two backward passes of one call, and whether the first drew random numbers."""

    first: dict[str, Tensor | None]
    second: dict[str, Tensor | None] | Exception
    drew: bool


def _passes(trial: Trial) -> _Passes:
    def work() -> _Passes:
        outputs, leaves, _ = forward(trial.candidate, trial.sample)
        before = generators(trial.sample.device)
        first = pull_back(outputs, leaves, trial.truth().live, retain_graph=True)
        drew = not all(map(torch.equal, before, generators(trial.sample.device)))
        try:
            return _Passes(first, pull_back(outputs, leaves, trial.truth().live), drew)
        except Exception as error:
            return _Passes(first, error, drew)

    return trial.once("passes", work)


@probe()
def random_numbers(trial: Trial) -> Iterator[Evidence]:
    """Random numbers are drawn in forward alone."""
    if trial.seen().error is None and _passes(trial).drew:
        words = "backward draws random numbers: save the mask, or the state of the generator"
        yield Evidence("redrawn-randomness", "the generator moved on", "it stands still", words)


@probe()
def second_backward(trial: Trial) -> Iterator[Evidence]:
    """With retain_graph, backward may be called again."""
    if trial.seen().error is not None:
        return
    first, second, _ = _passes(trial)
    if isinstance(second, Exception):
        seen = f"{type(second).__name__}: {second}"
        yield Evidence("second-backward", seen, "the same gradients", "a second backward raises")
        return
    for name, gradient in second.items():
        if not trial.agree(gradient, first[name]):
            words = f"gradient of {name} in a second backward: something was consumed or overwritten"
            yield Evidence("second-backward", excerpt(gradient), excerpt(first[name]), words)


@probe(dear=True)
def interleaved(trial: Trial) -> Iterator[Evidence]:
    """Two calls, then both backward passes."""
    other = trial.on(_other(trial.sample))
    if trial.seen().error is not None or other.truth().error is not None:
        return
    try:
        first, second = (forward(trial.candidate, each.sample) for each in (trial, other))
        live = trial.truth().live
        gradients = [pull_back(outputs, leaves, live) for outputs, leaves, _ in (first, second)]
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
        yield Evidence("state-outside-ctx", seen, "two gradients", "two calls, then two backward passes")
        return
    mixed = other.with_seen(Outcome(tuple(y.detach() for y in second[0]), live, gradients[1]))
    if not any(True for _ in mixed.differences()):
        other = mixed
    for wanted, found in ((trial.seen(), gradients[0]), (other.seen(), gradients[1])):
        for name, gradient in found.items():
            if not trial.agree(gradient, wanted.gradients.get(name)):
                words = f"gradient of {name} when two calls interleave: kept on self, module or a global"
                seen, expected = excerpt(gradient), excerpt(wanted.gradients.get(name))
                yield Evidence("state-outside-ctx", seen, expected, words)
                return
    yield from _stale(trial, other)


def _stale(trial: Trial, other: Trial) -> Iterator[Evidence]:
    """Right on the first call, wrong on a second with other numbers of the same kind."""
    right = not any(True for _ in trial.differences())
    for difference in other.differences() if right else ():
        words = f"{difference.what} of the second call is wrong, as if of the first: a stale cache"
        yield Evidence("state-outside-ctx", excerpt(difference.seen), excerpt(difference.expected), words)
        return


def _other(sample: Sample) -> Sample:
    return sample.changed("a second call", "state-outside-ctx", lambda _, x: x * 1.25)


@probe(quick=False)
def threads(trial: Trial) -> Iterator[Evidence]:
    """Both passes in another thread, and backward alone in another."""
    if trial.seen().error is not None:
        return
    live = trial.truth().live
    whole = _elsewhere(lambda: run(trial.candidate, trial.sample, live=live))
    outputs, leaves, _ = forward(trial.candidate, trial.sample)
    half = _elsewhere(lambda: _backward(outputs, leaves, live))
    for outcome, what in ((whole, "called in"), (half, "backward in")):
        if outcome.error is not None:
            words = f"{what} another thread"
            yield Evidence("thread-dependent", outcome.words, "the same as in one thread", words)
            return
        yield from _unequal(trial, outcome, "thread-dependent", "{} when " + what + " another thread")


def _backward(outputs: tuple[Tensor, ...], leaves: dict[str, Tensor], live: tuple[int, ...]) -> Outcome:
    try:
        return Outcome(gradients=pull_back(outputs, leaves, live))
    except Exception as error:
        return Outcome(error=error, stage="backward")


def _elsewhere(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@probe()
def buffers(trial: Trial) -> Iterator[Evidence]:
    """A module's buffers are those of the reference after forward, and backward leaves them alone."""
    ours, theirs = trial.candidate.module, trial.truth_of.target.module
    if ours is None or theirs is None or trial.seen().error is not None or next(ours.buffers(), None) is None:
        return
    seen, expected = (_buffers(trial, module) for module in (ours, theirs))
    pairs = [("in forward", seen[0], expected[0]), ("in backward", seen[1], seen[0])]
    for when, found, wanted in pairs:
        for name in found.keys() & wanted.keys():
            if not _same(trial, found[name], wanted[name]):
                words = f"buffer {name} is wrong {when}"
                yield Evidence("buffers", excerpt(found[name]), excerpt(wanted[name]), words)


def _same(trial: Trial, found: Tensor, wanted: Tensor) -> bool:
    return trial.agree(found, wanted) if found.is_floating_point() else same_numbers(found, wanted)


def _buffers(trial: Trial, module: torch.nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The buffers after forward and after backward, on a copy."""
    module = copy.deepcopy(module).to(trial.sample.dtype)
    seed()
    output = module(*trial.sample.fresh(spare=True).args)
    after = [copy.deepcopy(dict(module.named_buffers()))]
    loss = sum(y.sum() for y in pytree.tree_leaves(output) if y.requires_grad)
    if isinstance(loss, Tensor):
        loss.backward()
    return after[0], copy.deepcopy(dict(module.named_buffers()))


@probe(sound=True)
def same_tensor(trial: Trial) -> Iterator[Evidence]:
    """One tensor passed as two arguments gets the sum of both gradients."""
    for twin in _twins(trial.sample):
        seen, truth = (_twice(t, twin, trial.truth().live) for t in (trial.candidate, trial.truth_of.target))
        if truth is None or isinstance(truth, str):
            continue
        if isinstance(seen, str):
            yield Evidence("same-tensor-twice", seen, "the reference returns", "one tensor as two arguments")
        elif not trial.near(seen, truth):
            words = f"{twin[1]} and {twin[2]} are one tensor"
            yield Evidence("same-tensor-twice", excerpt(seen), excerpt(truth), words)


def _twins(sample: Sample) -> Iterator[tuple[Sample, str, str]]:
    names = [name for name in sample.leaves if name in sample.inputs]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if sample.tensors[a].shape == sample.tensors[b].shape:
                yield sample, a, b


def _twice(target: Any, twin: tuple[Sample, str, str], live: tuple[int, ...]) -> Tensor | str | None:
    sample, a, b = twin
    call = sample.shared(a, b)
    seed()
    try:
        outputs = target.outputs(call.args, call.state, sample.training)
        return pull_back(outputs, {a: call.leaves[a]}, live)[a]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _unequal(trial: Trial, outcome: Outcome, fault: str, words: str) -> Iterator[Evidence]:
    """Where an outcome of the candidate is not its first one."""
    first = trial.seen()
    for i, (again, output) in enumerate(zip(outcome.outputs, first.outputs, strict=False)):
        if not trial.agree(again, output):
            yield Evidence(fault, excerpt(again), excerpt(output), words.format(f"output {i}"))
            return
    for name, gradient in outcome.gradients.items():
        expected = first.gradients.get(name)
        if not trial.agree(gradient, expected):
            yield Evidence(fault, excerpt(gradient), excerpt(expected), words.format(f"gradient of {name}"))
            return
