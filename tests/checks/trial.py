"""A trial: a layer, or its built-in, standing on the inputs of a case, ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.spec import Called, Case, LayerSpec

from .corrected import CORRECTED, Corrections

SEED = 11

Layout = Callable[[Tensor], Tensor]
Gradients = dict[str, "Tensor | None"]


@dataclass(frozen=True)
class Trial:
    """A module and its inputs, tensors or tuples. ``grain`` is the dtype in which cotangents are rounded."""

    title: str
    module: Any
    inputs: tuple[Any, ...]
    grain: torch.dtype
    inplace: bool = False

    @property
    def layer(self) -> Any:
        """The layer itself, in whatever way it is called."""
        return self.module.layer if isinstance(self.module, Called) else self.module

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Every tensor that can have a gradient: inputs by position, parameters by name."""
        tensors = enumerate(pytree.tree_leaves(self.inputs))
        inputs = {f"input{i}": x for i, x in tensors if isinstance(x, Tensor)}
        # a compiled module puts a prefix before the names of its parameters
        parameters = {name.removeprefix("_orig_mod."): x for name, x in self.module.named_parameters()}
        return {
            name: x for name, x in (inputs | parameters).items() if x.is_floating_point() or x.is_complex()
        }

    def on(self, change: Callable[[Tensor], Tensor]) -> Trial:
        """The same module on changed inputs."""
        return replace(self, inputs=tuple(change(x).detach() for x in self.inputs))

    def need(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Requires gradients of the leaves named (of all, if None) and of no other; returns those."""
        leaves = self.leaves
        chosen = set(leaves if names is None else names)
        for name, leaf in leaves.items():
            leaf.requires_grad_(name in chosen)
        return {name: leaf for name, leaf in leaves.items() if name in chosen}

    def call(self, *inputs: Tensor) -> Any:
        """The layer's output, with the random numbers of a fixed seed."""
        torch.manual_seed(SEED)
        return self.module(*self.spare(inputs or self.inputs))

    def spare(self, inputs: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Inputs that may be overwritten: a leaf that requires a gradient may not be, its clone may."""
        return tuple(x.clone() if self.inplace else x for x in inputs)

    def function(self) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
        """The layer as a pure function of its leaves, and the leaves."""
        leaves = self.leaves
        # what can be known before is not done inside, which a compiler reads line by line
        moving = [i for i in range(len(self.inputs)) if f"input{i}" in leaves]
        names = tuple(leaves)[len(moving) :]
        buffers = dict(self.module.named_buffers())

        # seeding is the caller's: a transform may not call what draws from a generator it does not know
        def pure(*tensors: Tensor) -> Any:
            inputs = list(self.inputs)
            for i, x in zip(moving, tensors, strict=False):
                inputs[i] = x
            if not names and not buffers:
                return self.module(*self.spare(inputs))
            values = dict(zip(names, tensors[len(moving) :], strict=True))
            # a transform refuses to write into a buffer that it does not know
            values |= {name: buffer.clone() for name, buffer in buffers.items()}
            return torch.func.functional_call(self.module, values, self.spare(inputs))

        return pure, tuple(leaf.detach() for leaf in leaves.values())

    def cost(self) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
        """The sum of the layer's outputs, weighted at random, as a pure function of its leaves."""
        function, leaves = self.function()
        weights = [draw_like(y, self.grain) for y in differentiable(function(*leaves), any_tensor=True)]

        def cost(*tensors: Tensor) -> Tensor:
            outputs = differentiable(function(*tensors), any_tensor=True)
            return torch.stack([(y * w).sum() for y, w in zip(outputs, weights, strict=True)]).sum()

        return cost, leaves


def draws(trial: Trial) -> bool:
    """Whether the layer draws random numbers on these inputs."""
    torch.manual_seed(SEED)
    before = torch.get_rng_state()
    trial.call()
    return not torch.equal(before, torch.get_rng_state())


def trials(
    spec: LayerSpec, case: Case, dtype: torch.dtype = torch.float64, corrected: Corrections = CORRECTED
) -> tuple[Trial, Trial]:
    """The layer's trial and the built-in's, with equal parameters and equal inputs.

    Args:
        spec: the layer.
        case: what it is built and called with.
        dtype: the dtype of parameters and inputs.
        corrected: what stands in for a built-in whose derivative is at fault.
    """
    reference = corrected.get(spec.reference, spec.reference)
    ours, builtin = (
        Trial(
            title=f"{spec.layer.__name__}({case})",
            module=case.called(case.build(module, dtype)),
            inputs=case.draw(dtype),
            grain=dtype,
            inplace=bool(case.options.get("inplace")),
        )
        for module in (spec.layer, reference)
    )
    return ours, builtin


def draw_like(tensor: Tensor, grain: torch.dtype, seed: int = SEED) -> Tensor:
    """A normal tensor, rounded to ``grain``; drawn in float64, so that it is the same in every dtype."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    drawn = _normal(tensor.shape, wide, seed)
    # a copy, because a faulty layer may write into it
    return drawn.to(grain if grain.is_complex == wide.is_complex else wide).to(tensor.dtype, copy=True)


# the layer and its built-in ask for the same numbers, one after the other
@lru_cache(maxsize=4)
def _normal(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    # a generator of its own, so that the random state after a layer is the layer's doing
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def differentiable(output: Any, any_tensor: bool = False) -> list[Tensor]:
    """The tensors of an output through which a gradient can flow."""
    leaves = [output] if isinstance(output, Tensor) else pytree.tree_leaves(output)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return [y for y in tensors if y.requires_grad or (any_tensor and y.is_floating_point())]


def differentiate(
    trial: Trial, needs: Iterable[str] | None = None, layout: Layout | None = None, create_graph: bool = False
) -> Gradients:
    """Calls the layer and returns the gradients of the leaves for a random cotangent."""
    leaves = trial.need(needs)
    return pull_back(trial, trial.call(), leaves, layout, create_graph)


def values_and_gradients(trial: Trial, layout: Layout | None = None) -> tuple[Any, Gradients]:
    """The layer's output, and the gradients of the leaves for a random cotangent."""
    leaves = trial.need()
    output = trial.call()
    return output, pull_back(trial, output, leaves, layout)


def pull_back(
    trial: Trial,
    output: Any,
    leaves: dict[str, Tensor],
    layout: Layout | None = None,
    create_graph: bool = False,
) -> Gradients:
    """The gradients of ``leaves`` for a random cotangent of ``output``."""
    outputs = differentiable(output)
    if not outputs:
        return {}
    cotangents = [draw_like(y, trial.grain) for y in outputs]
    cotangents = [layout(g) for g in cotangents] if layout else cotangents
    gradients = torch.autograd.grad(
        outputs, tuple(leaves.values()), cotangents, create_graph=create_graph, allow_unused=True
    )
    return dict(zip(leaves, gradients, strict=True))
