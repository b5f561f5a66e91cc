"""Gradients that depend on nothing, as that of a bias: a sum of cotangents, which may be constants.

The backward pass of a built-in is one operator of all that it was given, so that its gradients can always be
differentiated again, to zeros. Those of a rule are made of what they depend on, and where that is nothing
autograd would refuse to differentiate them. So they are tied to the leaves that the rule's inputs come from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.graph import below


def differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The ``backward`` of a rule, whose gradients have a graph where one is recorded."""

    def differentiable_backward(ctx: Any, *cotangents: Any) -> Any:
        grads = backward(ctx, *cotangents)
        # a transform has zeros where nothing is depended on, and so has a compiler
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return grads
        if torch._C._are_functorch_transforms_active() or not hasattr(ctx, "next_functions"):
            return grads
        found = grads if isinstance(grads, tuple) else (grads,)
        if not any(map(_is_loose, found)):
            return grads
        leaves = [node.variable for node in below((ctx,)) if hasattr(node, "variable")]
        tied = tuple(_Tie.apply(grad, *leaves) if _is_loose(grad) else grad for grad in found)
        return tied if isinstance(grads, tuple) else tied[0]

    return differentiable_backward


def _is_loose(grad: Tensor | None) -> bool:
    return grad is not None and not grad.requires_grad and grad.layout == torch.strided


class _Tie(torch.autograd.Function):
    """The identity of a gradient, with a derivative by what it does not depend on: zero."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *leaves: Tensor) -> Tensor:
        # not saved: they may be written into, for only their shapes are read
        ctx.leaves = leaves
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        return None, *(torch.zeros_like(leaf) for leaf in ctx.leaves)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].view_as(tangents[0])
