"""normalize, the one normalization that is no layer: every norm, against torch and against differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks.comparison import equal
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, vmap

from torch_backprop.functional import normalize

NORMS = (2, 1, 0, 0.5, 1.5, 3, -1, math.inf, -math.inf)


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def first_and_second(function: Any, x: Tensor, **options: Any) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    y = function(x, **options)
    g = drawn(*y.shape, dtype=y.dtype, seed=1)
    (first,) = torch.autograd.grad(y, x, g, create_graph=True)
    (second,) = torch.autograd.grad(first, x, g, materialize_grads=True, allow_unused=True)
    return y, first, second


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("p", NORMS)
def test_derivatives_are_those_of_torch(p: float, dtype: torch.dtype) -> None:
    for dim in (1, -3, (0, 2), None):
        options = {"p": p, "dim": dim, "eps": 1e-3}
        x = drawn(2, 3, 4, dtype=dtype)
        equal(
            first_and_second(normalize, x, **options),
            first_and_second(F.normalize, x, **options),
            str(options),
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("p", NORMS)
def test_derivatives_are_those_of_differences(p: float, dtype: torch.dtype) -> None:
    x = drawn(2, 3, dtype=dtype).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: normalize(x, p),
        x,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )
    assert torch.autograd.gradgradcheck(lambda x: normalize(x, p), x)


@pytest.mark.parametrize("p", NORMS)
def test_the_modes_nest(p: float) -> None:
    x = drawn(3)

    def cost(x: Tensor) -> Tensor:
        return (normalize(x, p, dim=0) * torch.arange(1.0, 4.0)).sum()

    expected = jacrev(jacrev(cost))(x)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacfwd, jacfwd)):
        equal(outer(inner(cost))(x), expected, f"{outer.__name__}({inner.__name__})")
    equal(vmap(grad(cost))(x.expand(2, 3))[1], grad(cost)(x), "vmap of grad")


@pytest.mark.parametrize("p", [2, 1, 3, math.inf])
def test_zeros_ties_and_what_is_shorter_than_eps(p: float) -> None:
    x = torch.tensor([[1.0, 2, 0, -2], [0, 0, 0, 0], [1e-13, 0, 0, 0]], dtype=torch.float64)
    seen, expected = first_and_second(normalize, x, p=p), first_and_second(F.normalize, x, p=p)
    equal(seen[:2], expected[:2], f"p={p}")
    assert all(tensor.isfinite().all() for tensor in seen)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_tensors(layout: Any) -> None:
    x = drawn(8, 40, 30, 40).contiguous(memory_format=layout).requires_grad_()
    for dim in (1, 0):
        outputs = normalize(x, dim=dim), F.normalize(x, dim=dim)
        seen, expected = (torch.autograd.grad(y, x, drawn(*x.shape, seed=1))[0] for y in outputs)
        equal(seen, expected, f"dimension {dim}")


def test_half_precision_and_out() -> None:
    x = drawn(3, 4).bfloat16()
    equal(normalize(x), F.normalize(x), "bfloat16")
    out = torch.empty(3, 4)
    assert normalize(drawn(3, 4).float(), out=out) is out
    equal(out, F.normalize(drawn(3, 4).float()), "out")


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (torch.ones(2), {}),
        (torch.ones(2, 2, dtype=torch.int64), {}),
        (torch.ones(2, 2).requires_grad_(), {"out": torch.empty(2, 2)}),
    ],
)
def test_errors_are_those_of_torch(x: Tensor, options: dict[str, Any]) -> None:
    raised = []
    for function in (F.normalize, normalize):
        with pytest.raises((RuntimeError, IndexError)) as caught:
            function(x, **options)
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


def test_compiled() -> None:
    x = drawn(3, 4).requires_grad_()
    compiled = torch.compile(normalize, fullgraph=True, backend="aot_eager")
    equal(torch.autograd.grad(compiled(x).sum(), x), torch.autograd.grad(F.normalize(x).sum(), x), "compiled")
