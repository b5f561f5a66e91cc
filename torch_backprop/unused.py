"""Cotangents of outputs that nothing used.

PyTorch makes zeros of them, and so hands zeros on where the built-in operators hand on nothing: a parameter
that has no part in a cost would get a gradient. Here they come as None. Where no output was used there are no
gradients either; where another was, a rule is given zeros, or None if it asks to see which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def of_used(backward: Callable[..., Any], sees_unused: bool) -> Callable[..., Any]:
    """The ``backward`` of a rule, called with None for a cotangent that is not there."""

    def backward_of_used(ctx: Any, *cotangents: Tensor | None) -> Any:
        unused = [g is None for g in cotangents]
        if all(unused):
            return (None,) * len(ctx.needs_input_grad)
        if any(unused) and not sees_unused:
            outputs = zip(cotangents, ctx._input_metadata, strict=True)
            cotangents = tuple(
                torch.zeros(y.shape, dtype=y.dtype, device=y.device) if g is None else g for g, y in outputs
            )
        return backward(ctx, *cotangents)

    return backward_of_used
