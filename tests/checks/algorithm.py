"""The algorithm without autograd: cost, gradients and state are those of the built-in under autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.algorithm import Backpropagation
from torch_backprop.spec import Case, LayerSpec

from .agreement import agree
from .trial import Trial, differentiable, draw_like, trials


class Standing(torch.nn.Module):
    """A trial as a model whose inputs are parameters too, so that their gradients are asked for."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial, self.module = trial, trial.module
        leaves, self.structure = pytree.tree_flatten(trial.inputs)
        self.plain = {i: leaf for i, leaf in enumerate(leaves) if f"input{i}" not in trial.leaves}
        held = {f"input{i}": leaf for i, leaf in enumerate(leaves) if i not in self.plain}
        self.inputs = torch.nn.ParameterDict(held)

    def forward(self) -> Any:
        count = len(self.plain) + len(self.inputs)
        leaves = [self.plain[i] if i in self.plain else self.inputs[f"input{i}"] for i in range(count)]
        return self.trial.call(*pytree.tree_unflatten(leaves, self.structure))


def without_autograd(spec: LayerSpec, case: Case) -> None:
    """The tape's gradients of every input and parameter, the buffers, and the random numbers consumed."""
    ours, builtin = trials(spec, case)

    def probe(trial: Trial) -> Any:
        return (_by_the_tape if trial is ours else _by_autograd)(Standing(trial))

    agree(probe, ours, builtin, "without autograd")


def _by_the_tape(model: Standing) -> Any:
    cost, gradients = Backpropagation(model, _cost)((), None)
    return cost, gradients, dict(model.named_buffers()), torch.get_rng_state()


def _cost(output: Any, _: None) -> Tensor:
    outputs = differentiable(output, any_tensor=True)
    assert not any(y.requires_grad for y in outputs), "the tape left a part to autograd"
    return _weighted(outputs)


def _weighted(outputs: list[Tensor]) -> Tensor:
    # a cost has to be finite, and a layer need not be
    finite = [torch.where(y.isfinite(), y, 0) for y in outputs]
    return torch.stack([(y * draw_like(y, torch.float64)).sum() for y in finite]).sum()


def _by_autograd(model: Standing) -> Any:
    cost = _weighted(differentiable(model(), any_tensor=True))
    if cost.requires_grad:
        cost.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return cost, gradients, dict(model.named_buffers()), torch.get_rng_state()
