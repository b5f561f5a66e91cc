"""Derivatives of derivatives, by every order of the two modes."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, jvp

from torch_backprop.spec import Case, LayerSpec

from .agreement import Raised, agree, outcome
from .comparison import equal
from .corrected import CORRECTED_SECOND_ORDER
from .trial import Gradients, Trial, differentiable, differentiate, draw_like, trials

MOST = 64
"""Elements of the leaves that the matrices of second derivatives are asked of, if of more than one leaf."""


def double_backward(spec: LayerSpec, case: Case) -> None:
    """Second and third gradients, of the leaves and of the cotangent."""
    for order in (2, 3):
        ours, builtin = trials(spec, case, corrected=CORRECTED_SECOND_ORDER)
        agree(lambda t, n=order: gradients_of_order(t, n), ours, builtin, f"gradients of order {order}")


def constants(spec: LayerSpec, case: Case) -> None:
    """A gradient that depends on nothing has a derivative, zero, where that of the built-in has one."""
    for names in (None, *((name,) for name in trials(spec, case)[0].leaves)):
        ours, builtin = trials(spec, case, corrected={})
        expected, _ = outcome(lambda trial, to=names: _with_graph(trial, to), builtin, may_raise=True)
        if not isinstance(expected, Raised):
            missing = expected - _with_graph(ours, names)
            assert not missing, f"{ours.title}: no graph of the gradients of {missing}"


def _with_graph(trial: Trial, names: tuple[str, ...] | None) -> set[str]:
    gradients = differentiate(trial, names, create_graph=True)
    return {name for name, gradient in gradients.items() if gradient is not None and gradient.requires_grad}


def directional(spec: LayerSpec, case: Case) -> None:
    """The second derivative in two directions, by forward and reverse mode in all four orders."""
    ours, builtin = trials(spec, case, corrected=CORRECTED_SECOND_ORDER)
    if not ours.leaves:
        return
    expected = _reverse_over_reverse(builtin)
    for curvature in (
        _reverse_over_reverse,
        _forward_over_reverse,
        _reverse_over_forward,
        _forward_over_forward,
    ):
        name = curvature.__name__.strip("_").replace("_", " ")
        equal(curvature(ours), expected, f"{ours.title}: second derivative, {name}")


def hessians(spec: LayerSpec, case: Case) -> None:
    """The matrices of second derivatives, as users ask for them: over the smallest leaves."""
    ours, builtin = trials(spec, case, corrected=CORRECTED_SECOND_ORDER)
    # torch.func stacks the rows of a matrix, and refuses if there are none
    if not all(leaf.numel() for leaf in ours.leaves.values()):
        return
    expected, _ = outcome(lambda t: _matrices(t, jacrev, jacrev), builtin)
    for outer, inner in ((_jacfwd, jacrev), (jacrev, _jacfwd), (_jacfwd, _jacfwd)):

        def probe(trial: Trial, outer: Any = outer, inner: Any = inner) -> Any:
            return _matrices(trial, outer, inner)

        seen, _ = outcome(probe, ours, may_raise=True)
        # where the built-in has no such derivative, the layer may have none either
        if isinstance(seen, Raised):
            plain, _ = outcome(probe, trials(spec, case, corrected={})[1], may_raise=True)
            if isinstance(plain, Raised):
                continue
        name = f"{outer.__name__}({inner.__name__})".replace("_", "")
        equal(seen, expected, f"{ours.title}: second derivative, {name}")


def gradients_of_order(trial: Trial, order: int) -> Gradients:
    variables = trial.need()
    outputs = differentiable(trial.call())
    weights = [draw_like(y, trial.grain).requires_grad_() for y in outputs]
    variables |= {f"cotangent{i}": g for i, g in enumerate(weights)}
    gradients: Gradients = {}
    for step in range(order):
        if not outputs:
            # nothing depends on anything any more: autograd would refuse, and the gradient is zero
            return {name: torch.zeros_like(x) for name, x in variables.items()}
        found = torch.autograd.grad(
            outputs, tuple(variables.values()), weights, create_graph=True, materialize_grads=True
        )
        gradients = dict(zip(variables, found, strict=True))
        outputs = differentiable(found)
        weights = [draw_like(y, trial.grain, seed=step) for y in outputs]
    return gradients


def _directions(leaves: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    return tuple(draw_like(x, x.dtype, seed + i) for i, x in enumerate(leaves))


def _inner(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _prepare(trial: Trial) -> Any:
    cost, leaves = trial.cost()
    # one draw for the whole derivative: every order of the modes must meet the same random numbers
    torch.manual_seed(0)
    every = tuple(range(len(leaves)))
    return cost, leaves, every, _directions(leaves, 1), _directions(leaves, 100)


def _reverse_over_reverse(trial: Trial) -> Tensor:
    cost, leaves, every, u, v = _prepare(trial)
    inner = grad(cost, every)
    return _inner(grad(lambda *x: _inner(inner(*x), u), every)(*leaves), v)


def _forward_over_reverse(trial: Trial) -> Tensor:
    cost, leaves, every, u, v = _prepare(trial)
    return _inner(jvp(grad(cost, every), leaves, v)[1], u)


def _reverse_over_forward(trial: Trial) -> Tensor:
    cost, leaves, every, u, v = _prepare(trial)
    return _inner(grad(lambda *x: jvp(cost, x, u)[1], every)(*leaves), v)


def _forward_over_forward(trial: Trial) -> Tensor:
    cost, leaves, _, u, v = _prepare(trial)
    return jvp(lambda *x: jvp(cost, x, u)[1], leaves, v)[1]


def _jacfwd(function: Any, every: Any) -> Any:
    return jacfwd(function, every, randomness="same")


def _matrices(trial: Trial, outer: Any, inner: Any) -> Any:
    cost, leaves, every, *_ = _prepare(trial)
    # a matrix has the square of their elements
    counts = [leaf.numel() for leaf in leaves]
    ranked = sorted(every, key=counts.__getitem__)
    fitting = sum(total <= MOST for total in accumulate(sorted(counts)))
    few = tuple(ranked[: max(1, fitting)])
    return outer(inner(cost, few), few)(*leaves)
