"""Class weights and running statistics: no gradients, as in torch, but tangents, which torch drops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks.comparison import equal
from checks.trial import differentiable, draw_like, trials
from test_layers import every_case
from torch import Tensor
from torch.func import functional_call, grad_and_value, jvp

from torch_backprop import functional
from torch_backprop.spec import Case, LayerSpec

STEP = 1e-5


def floating_buffers(spec: LayerSpec, case: Case) -> dict[str, Tensor]:
    buffers = trials(spec, case)[0].module.named_buffers()
    return {name: buffer for name, buffer in buffers if buffer.is_floating_point()}


@pytest.mark.parametrize(("spec", "case"), [one for one in every_case() if floating_buffers(*one.values)])
def test_values_and_gradients_move_with_the_buffers(spec: LayerSpec, case: Case) -> None:
    trial, _ = trials(spec, case)
    buffers = floating_buffers(spec, case)
    directions = tuple(draw_like(buffer, buffer.dtype) for buffer in buffers.values())
    weights = [draw_like(y, trial.grain) for y in differentiable(trial.call(), any_tensor=True)]

    def probe(*values: Tensor) -> Any:
        every = dict(trial.module.named_buffers()) | dict(zip(buffers, values, strict=True))

        def cost(x: Tensor) -> Tensor:
            # in training they are written into
            moved = {name: buffer.clone() for name, buffer in every.items()}
            output = functional_call(trial.module, moved, (x, *trial.inputs[1:]))
            outputs = differentiable(output, any_tensor=True)
            return torch.stack([(y * w).sum() for y, w in zip(outputs, weights, strict=True)]).sum()

        return grad_and_value(cost)(trial.inputs[0])

    def at(step: float) -> Any:
        return probe(*(b + step * d for b, d in zip(buffers.values(), directions, strict=True)))

    seen: Any = jvp(probe, tuple(buffers.values()), directions)[1]
    for tangent, above, below in zip(seen, at(STEP), at(-STEP), strict=True):
        torch.testing.assert_close(tangent, (above - below) / (2 * STEP), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_an_infinite_loss_whose_weights_stand_still_has_the_tangent_of_torch(reduction: str) -> None:
    x = torch.tensor([[0.3, -torch.inf], [torch.inf, 0.1], [0.2, 0.7]], dtype=torch.float64)
    direction = torch.ones_like(x)
    target, weight = torch.tensor([1, -100, 0]), torch.tensor([0.5, 2.0], dtype=torch.float64)

    def tangent(source: Any) -> Any:
        return jvp(lambda x: source.nll_loss(x, target, weight, reduction=reduction), (x,), (direction,))

    equal(tangent(functional), tangent(torch.nn.functional), reduction)
