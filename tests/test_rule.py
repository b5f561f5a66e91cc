"""The base of the rules: forward mode of any order, autocast policies, and when a fast path is allowed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from torch_backprop import functional
from torch_backprop.functional import linear, relu
from torch_backprop.rule import FLOAT32, LOWER, WIDEST, Rule, first_order, save, widen


class Cube(Rule):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad_y

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * tangent_x


class InheritedCube(Cube):
    """Takes its jvp from a rule, which must not be wrapped twice."""


def product_rule(policy: str) -> Callable[..., Tensor]:
    class Product(Rule):
        autocast = {"cpu": policy}

        @staticmethod
        def forward(x: Tensor, w: Tensor) -> Tensor:
            return x * w

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
            save(ctx, *inputs)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor]:
            x, w = ctx.saved_tensors
            return grad_y * w, grad_y * x

        @staticmethod
        def jvp(ctx: Any, tangent_x: Tensor, tangent_w: Tensor) -> Tensor:
            x, w = ctx.saved_tensors
            return tangent_x * w + x * tangent_w

    return Product.call


def derivative(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x: jvp(function, (x,), (torch.ones_like(x),))[1]


@pytest.mark.parametrize("rule", [Cube, InheritedCube])
@pytest.mark.parametrize("outer", [derivative, grad, jacfwd, jacrev])
@pytest.mark.parametrize("inner", [derivative, grad, jacfwd, jacrev])
def test_derivatives_nest(rule: type[Rule], outer: Any, inner: Any) -> None:
    x = torch.tensor(2.0, dtype=torch.float64)
    assert inner(rule.call)(x) == 12
    assert outer(inner(rule.call))(x) == 12
    assert derivative(outer(inner(rule.call)))(x) == 6
    assert grad(outer(inner(rule.call)))(x) == 6


def test_forward_mode_nests_under_vmap() -> None:
    x = torch.arange(3.0, dtype=torch.float64)
    assert torch.equal(vmap(derivative(derivative(Cube.call)))(x), 6 * x)
    assert torch.equal(jacfwd(jacfwd(Cube.call))(x), torch.diag_embed(torch.diag(6 * x)))


@pytest.mark.parametrize(
    ("policy", "x_dtype", "w_dtype", "expected"),
    [
        (LOWER, torch.float32, torch.float32, torch.bfloat16),
        (LOWER, torch.float64, torch.float32, torch.float64),
        (FLOAT32, torch.bfloat16, torch.bfloat16, torch.float32),
        (WIDEST, torch.bfloat16, torch.float32, torch.float32),
        (WIDEST, torch.bfloat16, torch.bfloat16, torch.bfloat16),
    ],
)
def test_autocast_policy(
    policy: str, x_dtype: torch.dtype, w_dtype: torch.dtype, expected: torch.dtype
) -> None:
    x, w = torch.ones(3, dtype=x_dtype).requires_grad_(), torch.ones(3, dtype=w_dtype).requires_grad_()
    rule = product_rule(policy)
    with torch.autocast("cpu", torch.bfloat16):
        y = rule(x, w)
    assert y.dtype is expected
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad.dtype, x.grad.tolist()) == (x_dtype, [1.0, 1.0, 1.0])


def test_without_autocast_dtypes_stay() -> None:
    for policy in (LOWER, FLOAT32, WIDEST):
        x = torch.ones(3, dtype=torch.float16)
        assert product_rule(policy)(x, x).dtype is torch.float16


def test_fast_path_is_for_first_order_over_plain_tensors() -> None:
    x = torch.ones(3)
    assert not first_order(x)
    with torch.no_grad():
        assert first_order(x, torch.nn.Parameter(x))
        assert not first_order(x, x.to("meta"))
        assert not first_order(FakeTensorMode().from_tensor(x))


def test_fast_path_is_not_for_a_view_of_negated_numbers() -> None:
    z = torch.tensor([3 - 1j, 2 + 5j])
    cotangent = z.conj().imag
    assert cotangent.is_neg()
    assert not first_order(cotangent)
    x = torch.ones(2, requires_grad=True)
    (grad_x,) = torch.autograd.grad(relu(x), x, cotangent)
    assert grad_x.tolist() == [1, -5]


def test_fast_path_is_not_for_transforms() -> None:
    answers = []

    def ask(x: Tensor) -> Tensor:
        with torch.no_grad():
            answers.append(first_order(x))
        return x.sum()

    x = torch.ones(2, 3)
    vmap(ask)(x)
    grad(ask)(x)
    jvp(ask, (x,), (x,))
    assert answers == [False, False, False]


def test_fast_path_is_not_for_batched_cotangents() -> None:
    answers = []

    class Watched(Cube):
        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> Tensor:
            answers.append(first_order(grad_y))
            return Cube.backward(ctx, grad_y)

    x = torch.ones(3).requires_grad_()
    y = Watched.call(x)
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True, retain_graph=True)
    torch.autograd.grad(y, x, torch.ones(3), create_graph=True)
    torch.autograd.grad(y, x, torch.ones(3))
    assert answers == [False, False, True]


@pytest.mark.slow
def test_a_compiled_gradient_reaches_the_weights_of_a_second_layer() -> None:
    x, first, second = torch.tensor([[0.5, -2.0]]), torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0]])
    # its input needs a gradient as Dynamo sees it, its weights do not
    gradient = grad(lambda a, b: linear(linear(x, a), b).sum(), (0, 1))
    torch._dynamo.reset()
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    for seen, expected in zip(compiled(first, second), gradient(first, second), strict=True):
        assert torch.equal(seen, expected)


def test_half_precision_is_widened() -> None:
    widened = {dtype: widen(torch.ones(1, dtype=dtype)).dtype for dtype in (torch.float16, torch.bfloat16)}
    assert set(widened.values()) == {torch.float32}
    for dtype in (torch.float32, torch.float64, torch.complex64):
        assert widen(torch.ones(1, dtype=dtype)).dtype is dtype


@pytest.mark.slow
def test_numbers_and_tensors_serve_several_rules_in_a_graph_of_changing_sizes() -> None:
    """Options and constants, which are symbols there, and one tensor as several arguments."""

    def cost(x: Tensor) -> Tensor:
        p = x.sigmoid()
        costs = [functional.binary_cross_entropy(q, p.detach()) for q in (p, (x + 1).sigmoid())]
        leaky = partial(functional.leaky_relu, negative_slope=0.2)
        for activation in (functional.selu, functional.gelu, leaky):
            x = activation(activation(x))
        for _ in range(2):
            x = functional.gelu(
                functional.scaled_dot_product_attention(x, x, x, scale=0.3), approximate="tanh"
            )
        return torch.stack([*costs, x.sum()]).sum()

    compiled = torch.compile(cost, fullgraph=True, backend="aot_eager", dynamic=True)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    seen, expected = (torch.autograd.grad(function(x), x) for function in (compiled, cost))
    torch.testing.assert_close(seen, expected)
