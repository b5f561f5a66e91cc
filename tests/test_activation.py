"""Activations where their slope changes: which of the two derivatives holds there."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop import functional

NAMES = [
    "relu",
    "relu6",
    "hardtanh",
    "leaky_relu",
    "hardshrink",
    "softshrink",
    "hardswish",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "logsigmoid",
    "softsign",
    "tanhshrink",
]


@pytest.mark.parametrize("name", NAMES)
def test_at_a_kink_first_and_second_derivative_are_those_of_torch(name: str) -> None:
    def derivatives(f: Callable[[Tensor], Tensor]) -> list[Tensor]:
        x = torch.tensor([0.0, -0.0, 0.5, -0.5, 1, -1, 3, -3, 6, 20], dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        return [first.detach(), *torch.autograd.grad(first.sum(), x)]

    torch.testing.assert_close(derivatives(getattr(functional, name)), derivatives(getattr(F, name)))
