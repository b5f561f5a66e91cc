"""Forward mode and batching: torch.func on the layer, and gradients for many cotangents at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.utils import _pytree as pytree

from torch_backprop.spec import Case, LayerSpec

from .agreement import Probe, Raised, agree, outcome
from .comparison import equal
from .gradients import FEW
from .trial import SEED, Trial, differentiable, draw_like, draws, trials

BATCH = 3


def tangents(spec: LayerSpec, case: Case) -> None:
    """The derivative in a direction of all leaves, and of each alone while the others are constants."""
    names = tuple(trials(spec, case)[0].leaves)
    for moving in (names, *((name,) for name in names if len(names) > 1)):
        agree(lambda t, to=moving: _push_forward(t, to), *trials(spec, case), f"tangent of {moving}")


def batched(spec: LayerSpec, case: Case) -> None:
    """vmap of the layer, of its gradient and of its tangent, in every mode of drawing random numbers."""
    random = draws(trials(spec, case)[1])
    modes = ("error", "same", "different") if random else ("error",)
    for transform, mode, dims in product(
        (_values, _gradients, _tangents), modes, ((0, None), (-1, None), (0, 0))
    ):
        name = f"vmap of {transform.__name__[1:]}, randomness={mode}, dimensions {dims}"
        _batched(spec, case, partial(_vmap, transform, mode, dims), partial(_loop, transform, dims), name)


def shared(spec: LayerSpec, case: Case) -> None:
    """vmap of the gradient over each leaf alone, while all others are one for the whole batch."""
    names = tuple(trials(spec, case)[0].leaves)
    mode = "same" if draws(trials(spec, case)[1]) else "error"
    # of many an input and a parameter will do
    alone = names if len(names) <= FEW else (names[0], names[-1])
    for name in alone if len(names) > 1 else ():
        dims = tuple(0 if other == name else None for other in names)
        mapped, looped = partial(_vmap_alone, mode, dims), partial(_loop_alone, dims)
        _batched(spec, case, mapped, looped, f"vmap over {name} alone")


def _batched(spec: LayerSpec, case: Case, mapped: Probe, looped: Probe, name: str) -> None:
    ours, builtin = trials(spec, case)
    expected, known = outcome(mapped, builtin, may_raise=True)
    seen, warned = outcome(mapped, ours, may_raise=True)
    # a corrected built-in may batch where torch's does not; there the layer need not, but may if it is right
    if isinstance(seen, Raised):
        expected, _ = outcome(mapped, trials(spec, case, corrected={})[1], may_raise=True)
    elif isinstance(expected, Raised):
        expected = looped(builtin)
    equal(seen, expected, f"{ours.title}: {name}")
    assert warned <= known, f"{ours.title}: {name}: warns {warned - known}, the built-in does not"


def batched_cotangents(spec: LayerSpec, case: Case) -> None:
    """is_grads_batched: many rows of a Jacobian in one backward pass."""
    agree(_is_grads_batched, *trials(spec, case), "is_grads_batched")


def _push_forward(trial: Trial, names: tuple[str, ...]) -> Any:
    function, leaves = trial.function()
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(x, draw_like(x, trial.grain)) if name in names else x
            for name, x in zip(trial.leaves, leaves, strict=True)
        ]
        torch.manual_seed(SEED)
        # plain dual numbers, because torch.func.jvp gives every argument a tangent and a rule may get None
        output = function(*duals)
        return pytree.tree_map_only(Tensor, _unpacked, output)


def _unpacked(y: Tensor) -> tuple[Tensor, Tensor]:
    primal, tangent = forward_ad.unpack_dual(y)
    # of several outputs one that does not move has no tangent, or zero
    return primal, torch.zeros_like(primal) if tangent is None else tangent


def _one(trial: Trial, transform: Any, inputs: tuple[Tensor, ...], parameters: tuple[Tensor, ...]) -> Any:
    function, leaves = replace(trial, inputs=inputs).function()
    leaves = leaves[: len(leaves) - len(parameters)] + parameters
    return transform(function, len(leaves))(*leaves)


def _loop(transform: Any, dims: tuple[int, int | None], trial: Trial) -> Any:
    trial.need(())
    inputs, parameters = _stack(trial.inputs, dims[0]), _stack(tuple(trial.module.parameters()), dims[1])
    results = [
        _one(trial, transform, _unstack(inputs, dims[0], i), _unstack(parameters, dims[1], i))
        for i in range(BATCH)
    ]
    return pytree.tree_map(lambda *parts: torch.stack(parts), *results)


def _unstack(tensors: tuple[Tensor, ...], dim: int | None, i: int) -> tuple[Tensor, ...]:
    return tensors if dim is None else tuple(x.select(dim, i) for x in tensors)


def _vmap(transform: Any, mode: str, dims: tuple[int, int | None], trial: Trial) -> Any:
    trial.need(())
    parameters = tuple(trial.module.parameters())
    torch.manual_seed(SEED)
    mapped = vmap(partial(_one, trial, transform), dims, randomness=mode)
    return mapped(_stack(trial.inputs, dims[0]), _stack(parameters, dims[1]))


def _stack(tensors: tuple[Tensor, ...], dim: int | None) -> tuple[Tensor, ...]:
    if dim is None:
        return tensors
    # rolled, not drawn, so that every example of the batch keeps to the kind of its input
    return tuple(torch.stack([x.roll(i) for i in range(BATCH)], dim) for x in tensors)


def _vmap_alone(mode: str, dims: tuple[int | None, ...], trial: Trial) -> Any:
    gradient, leaves = _gradient(trial)
    torch.manual_seed(SEED)
    stacked = (
        leaf if dim is None else _stack((leaf,), dim)[0] for leaf, dim in zip(leaves, dims, strict=True)
    )
    return vmap(gradient, dims, randomness=mode)(*stacked)


def _loop_alone(dims: tuple[int | None, ...], trial: Trial) -> Any:
    gradient, leaves = _gradient(trial)
    results = [
        gradient(*(x if dim is None else x.roll(i) for x, dim in zip(leaves, dims, strict=True)))
        for i in range(BATCH)
    ]
    return pytree.tree_map(lambda *parts: torch.stack(parts), *results)


def _gradient(trial: Trial) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    trial.need(())
    function, leaves = trial.function()
    return _gradients(function, len(leaves)), leaves


def _values(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    return function


def _gradients(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    def cost(*leaves: Tensor) -> Tensor:
        return torch.stack([(y * y).sum() for y in differentiable(function(*leaves), any_tensor=True)]).sum()

    return grad(cost, tuple(range(count)))


def _tangents(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    # a direction that follows from the leaves, because nothing may be drawn under vmap
    return lambda *leaves: jvp(function, leaves, tuple(x.cos() for x in leaves))[1]


def _is_grads_batched(trial: Trial) -> Any:
    leaves = trial.need()
    outputs = differentiable(trial.call())
    cotangents = [torch.stack([draw_like(y, trial.grain, seed) for seed in range(BATCH)]) for y in outputs]
    return torch.autograd.grad(
        outputs, tuple(leaves.values()), cotangents, is_grads_batched=True, allow_unused=True
    )
