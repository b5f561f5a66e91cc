"""The backward pass in float64: against the built-in, for every layout and every subset of needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from experiments.held import nodes_of
from torch_backprop.rule import Rule
from torch_backprop.spec import Case, LayerSpec

from .agreement import Raised, agree, outcome
from .comparison import tensor_facts
from .layouts import DENSE, SIZES, SPARSE, contiguous, expanded, step2, transposed
from .trial import Trial, differentiable, differentiate, draw_like, pull_back, trials

LARGE = 300_000
"""Elements of a tensor that does not fit a core's cache."""

FEW = 6
"""Leaves of which every subset is tried; of more only none, each, all but each, and all."""


def gradients(spec: LayerSpec, case: Case) -> None:
    """The gradient of every input and parameter, on inputs of every layout and size."""
    for layout in DENSE + SPARSE + SIZES:
        ours, builtin = (trial.on(layout) for trial in trials(spec, case))
        agree(gradients_and_state, ours, builtin, f"gradients, {layout.__name__} inputs", may_raise=True)


def gradient_layouts(spec: LayerSpec, case: Case) -> None:
    """A gradient lies in memory as the built-in's does, or as what it is the gradient of."""
    for layout in DENSE:
        ours, builtin = (trial.on(layout) for trial in trials(spec, case))
        expected, _ = outcome(differentiate, builtin, may_raise=True)
        # a layout that the built-in refuses has no gradient to lie anywhere
        if isinstance(expected, Raised):
            continue
        for name, gradient in differentiate(ours).items():
            if gradient is not None:
                models = (expected[name], ours.leaves[name])
                allowed = {tensor_facts(x, strides=True) for x in models if x is not None}
                facts = tensor_facts(gradient, strides=True)
                assert facts in allowed, (
                    f"{ours.title}: {name}, {layout.__name__}: {facts}, expected {allowed}"
                )


def cotangents(spec: LayerSpec, case: Case) -> None:
    """Gradients of the output that are not contiguous."""
    for layout in (transposed, step2, expanded):
        ours, builtin = trials(spec, case)
        agree(lambda t, to=layout: differentiate(t, layout=to), ours, builtin, f"{layout.__name__} cotangent")


def large(spec: LayerSpec, case: Case) -> None:
    """Enough elements for the paths that rules take over large tensors, which small ones never enter."""
    # where the work grows with the square of the first dimension, so do the numbers that come of it
    count = 4 * math.isqrt(LARGE) if "quadratic" in spec.properties else LARGE
    for layout in (contiguous, transposed):
        ours, builtin = (trial.on(partial(_enlarged, count=count)).on(layout) for trial in trials(spec, case))
        agree(differentiate, ours, builtin, f"gradients, large {layout.__name__} inputs", may_raise=True)


def complex_numbers(spec: LayerSpec, case: Case) -> None:
    """Gradients over the complex numbers, or the error of the built-in."""
    ours, builtin = trials(spec, case, torch.complex128)
    refused, _ = outcome(gradients_and_state, builtin, may_raise=True)
    if isinstance(refused, Raised) and "does not support automatic differentiation" in refused.words:
        # the layer may do better than the built-in, if it is right
        function, leaves = ours.function()
        assert torch.autograd.gradcheck(function, [leaf.requires_grad_() for leaf in leaves])
    else:
        agree(gradients_and_state, ours, builtin, "complex gradients", may_raise=True)


def needs(spec: LayerSpec, case: Case) -> None:
    """For every subset of what can need a gradient: right gradients, and no work for the others."""
    ours, builtin = trials(spec, case)
    for subset in subsets(tuple(ours.leaves)):
        agree(lambda t, to=subset: differentiate(t, to), ours, builtin, f"gradients of {subset}")
        _no_wasted_work(ours, subset)
    for name in ours.leaves:
        recorded = partial(differentiate, needs=(name,), create_graph=True)
        agree(recorded, ours, builtin, f"gradient of {name} alone, with a graph")


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The subsets of the leaves that are tried as what needs a gradient."""
    counts = range(len(names) + 1) if len(names) <= FEW else (0, 1, len(names) - 1, len(names))
    return [subset for count in counts for subset in combinations(names, count)]


def unused(spec: LayerSpec, case: Case) -> None:
    """Each output used alone, and none used at all: where there is no gradient, there is None."""
    agree(_one_at_a_time, *trials(spec, case), "gradients of one output alone")


def repeated(spec: LayerSpec, case: Case) -> None:
    """A graph that is retained can be used again; one that is not raises as the built-in's does."""
    agree(_twice, *trials(spec, case), "backward twice")


def gradients_and_state(trial: Trial) -> Any:
    output = differentiate(trial)
    # a backward pass draws no random numbers that the built-in's does not draw
    return output, torch.get_rng_state()


def _enlarged(x: Tensor, count: int) -> Tensor:
    if not x.dim() or not x.numel():
        return x
    rows = x.repeat(1 + count // x.numel(), *(1 for _ in x.shape[1:]))
    # numbers that repeat would hide a tile that is read in the place of another
    scale = torch.linspace(0.5, 1, rows.numel(), dtype=torch.float64).reshape(rows.shape)
    return rows * scale.to(rows.dtype) if rows.is_floating_point() else rows


class _Ends(torch.autograd.Function):
    """The identity, which hands no gradient on."""

    @staticmethod
    def forward(ctx: Any, *x: Tensor) -> Any:
        return tuple(y.view_as(y) for y in x)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return None, *(None for _ in ctx.needs_input_grad[1:])


def _one_at_a_time(trial: Trial) -> Any:
    leaves = tuple(trial.need().values())
    outputs = differentiable(trial.call())
    given = [draw_like(y, trial.grain) for y in outputs]
    pull = partial(torch.autograd.grad, inputs=leaves, retain_graph=True, allow_unused=True)
    alone = [pull((y,), grad_outputs=(g,)) for y, g in zip(outputs, given, strict=True)]
    return alone, pull(_Ends.apply(*outputs), grad_outputs=given) if outputs else ()


def _twice(trial: Trial) -> Any:
    leaves = tuple(trial.need().values())
    outputs = differentiable(trial.call())
    given = [draw_like(y, trial.grain) for y in outputs]

    def backward(retain_graph: bool) -> Any:
        return torch.autograd.grad(outputs, leaves, given, retain_graph, allow_unused=True)

    first, second = backward(True), backward(False)
    third, _ = outcome(lambda _: backward(False), trial, may_raise=True)
    return first, second, third


def _no_wasted_work(trial: Trial, subset: tuple[str, ...]) -> None:
    leaves = trial.need(subset)
    output = trial.call()
    wasted: list[str] = []
    with _watched(rules_of(output), wasted):
        pull_back(trial, output, leaves)
    assert not wasted, f"{trial.title}: gradients of {subset}: {'; '.join(wasted)}"


@contextmanager
def _watched(rules: set[type[Rule]], wasted: list[str]) -> Iterator[None]:
    """Notes what a backward returns beyond its needs: the engine would drop it silently."""
    originals = {rule: rule.backward for rule in rules}

    def watch(rule: type[Rule]) -> None:
        def backward(ctx: Any, *args: Any) -> Any:
            results = originals[rule](ctx, *args)
            listed = results if isinstance(results, tuple) else (results,)
            for i, (result, needed) in enumerate(zip(listed, ctx.needs_input_grad, strict=True)):
                if (result is not None) != needed:
                    wasted.append(f"{rule.__name__} returns {result} for argument {i}, needed: {needed}")
            return results

        rule.backward = staticmethod(backward)

    # what a node calls is looked up on its rule when it runs, so that a rule can be watched after the forward
    for rule in rules:
        watch(rule)
    try:
        yield
    finally:
        for rule, original in originals.items():
            rule.backward = staticmethod(original)


def rules_of(output: Any) -> set[type[Rule]]:
    """The rules behind an output."""
    kinds = (getattr(node, "_forward_cls", None) for node in nodes_of(output))
    return {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Rule)}
