"""Pooling on what the cases leave out: windows without elements."""

from __future__ import annotations

import pytest
import torch

from torch_backprop import nn


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_average_of_nothing_is_undefined_as_in_torch(dims: int) -> None:
    name = f"AdaptiveAvgPool{dims}d"
    outcomes = []
    for place in (nn, torch.nn):
        x = torch.ones(2, 3, 0, *(4 for _ in range(dims - 1)), requires_grad=True)
        y = getattr(place, name)(1)(x)
        (grad_x,) = torch.autograd.grad(y.sum(), x)
        outcomes.append((y.shape, bool(y.isnan().all()), grad_x.shape))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1]
