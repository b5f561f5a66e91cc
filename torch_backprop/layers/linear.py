r"""Affine maps: Linear and Bilinear.

Linear. Rumelhart, Hinton & Williams (1986), Nature 323, 533-536, eqs. 1, 6 and 7. With samples n, inputs i
and outputs o:

    forward   y_no = sum_i x_ni w_oi + b_o
    backward  dL/dx_ni = sum_o g_no w_oi     dL/dw_oi = sum_n g_no x_ni     dL/db_o = sum_n g_no

since an input is in every output of its sample, and a weight in every sample: each adds up what it gets
there.

Bilinear, with inputs i and j. Petersen & Pedersen (2012), "The Matrix Cookbook", eq. 70 (by w):

    forward   y_no = sum_ij u_ni w_oij v_nj + b_o
    backward  dL/du_ni = sum_oj g_no w_oij v_nj     dL/dv_nj = sum_oi g_no u_ni w_oij
              dL/dw_oij = sum_n g_no u_ni v_nj      dL/db_o = sum_n g_no

Over the complex numbers every factor of g is conjugated (Wirtinger calculus, in PyTorch's convention).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.rule import LOWER, WIDEST, Rule, owned, wanted
from torch_backprop.spec import LayerSpec, case


class LinearRule(Rule):
    """Saves x if the weight's gradient is needed and w if the input's is."""

    autocast = {"cpu": LOWER, "cuda": LOWER}

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return owned(F.linear(x, w, b))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, w, _ = inputs
        needs_x, needs_w, _ = ctx.needs_input_grad
        # a frozen layer keeps no activations, a first layer no weights
        ctx.save_for_backward(x if needs_w else None, w if needs_x else None)
        ctx.save_for_forward(x, w)
        ctx.is_dot = w.dim() == 1
        ctx.by_columns = not x.is_contiguous() and x.movedim(-1, 0).is_contiguous()

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        needs_x, needs_w, needs_b = ctx.needs_input_grad
        # a one-dimensional weight is a single output without its dimension
        g = grad_y.unsqueeze(-1) if ctx.is_dot else grad_y
        grad_x = _times(g, w.unsqueeze(0) if ctx.is_dot else w, ctx.by_columns) if needs_x else None
        grad_w = _rows(g).mT @ _rows(x).conj() if needs_w else None
        grad_b = _rows(g).sum(0) if needs_b else None
        if ctx.is_dot:
            grad_w = None if grad_w is None else grad_w.squeeze(0)
            grad_b = None if grad_b is None else grad_b.squeeze(0)
        return grad_x, grad_w, grad_b

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_w: Tensor | None, tangent_b: Tensor | None) -> Tensor:
        x, w = ctx.saved_tensors
        terms = (
            None if tangent_x is None else F.linear(tangent_x, w),
            None if tangent_w is None else F.linear(x, tangent_w),
            tangent_b,
        )
        # a bias alone has a smaller tangent than the output
        return sum_to(terms, x.shape[:-1] + w.shape[:-1])


class BilinearRule(Rule):
    """Saves of u, v and w those that the needed gradients multiply."""

    autocast = {"cuda": WIDEST}

    @staticmethod
    def forward(u: Tensor, v: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return owned(F.bilinear(u, v, w, b))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        u, v, w, _ = inputs
        needs_u, needs_v, needs_w, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            u if needs_v or needs_w else None,
            v if needs_u or needs_w else None,
            w if needs_u or needs_v else None,
        )
        ctx.save_for_forward(u, v, w)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        u, v, w = map(_conj, ctx.saved_tensors)
        needs_u, needs_v, needs_w, needs_b = ctx.needs_input_grad
        # matrix products of two factors: an einsum of three has no batching rule for is_grads_batched
        g = _rows(grad_y)
        grad_u = grad_v = grad_w = None
        if needs_u:
            grad_u = (_outer(g, _rows(v)) @ w.mT.reshape(-1, w.shape[1])).reshape(*v.shape[:-1], w.shape[1])
        if needs_v:
            grad_v = (_outer(g, _rows(u)) @ w.reshape(-1, w.shape[2])).reshape(*u.shape[:-1], w.shape[2])
        if needs_w:
            grad_w = _outer(g, _rows(u)).mT @ _rows(v)
            grad_w = grad_w.reshape(g.shape[1], u.shape[-1], v.shape[-1])
        grad_b = g.sum(0) if needs_b else None
        return grad_u, grad_v, grad_w, grad_b

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        u, v, w = ctx.saved_tensors
        tangent_u, tangent_v, tangent_w, tangent_b = tangents
        terms = (
            None if tangent_u is None else F.bilinear(tangent_u, v, w),
            None if tangent_v is None else F.bilinear(u, tangent_v, w),
            None if tangent_w is None else F.bilinear(u, v, tangent_w),
            tangent_b,
        )
        return sum_to(terms, u.shape[:-1] + w.shape[:1])


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Applies y = x w^T + b; as :func:`torch.nn.functional.linear`.

    Args:
        input: ``(*, in_features)``.
        weight: ``(out_features, in_features)`` or ``(in_features)``.
        bias: ``(out_features)`` or ``()``.

    Returns:
        ``(*, out_features)`` or ``(*)``.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, in torch's words.

    >>> linear(torch.ones(2, 3), torch.ones(1, 3), torch.ones(1))
    tensor([[4.],
            [4.]])
    """
    return LinearRule.call(input, weight, bias)


def not_kept(x: Tensor, w: Tensor, b: Tensor | None) -> int:
    """The elements that torch does not keep: it keeps x for the gradient of w, w for that of x, no bias."""
    return (0 if wanted(w) else x.numel()) + (0 if wanted(x) else w.numel()) + elements(b)


def elements(tensor: Tensor | None) -> int:
    """How many numbers a tensor has, if it is there."""
    return 0 if tensor is None else tensor.numel()


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Applies y = u^T W v + b; as :func:`torch.nn.functional.bilinear`.

    Args:
        input1: ``(*, in1_features)``.
        input2: ``(*, in2_features)``, with the same leading dimensions.
        weight: ``(out_features, in1_features, in2_features)``.
        bias: ``(out_features)``.

    Returns:
        ``(*, out_features)``.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, in torch's words.
    """
    return BilinearRule.call(input1, input2, weight, bias)


class Linear(torch.nn.Linear):
    """Drop-in for :class:`torch.nn.Linear`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, in_features)`` to ``(*, out_features)``."""
        return linear(input, self.weight, self.bias)


class LazyLinear(torch.nn.LazyLinear, Linear):
    """Drop-in for :class:`torch.nn.LazyLinear`: it becomes :class:`Linear`."""

    weight: Any
    cls_to_become: Any = Linear


class Bilinear(torch.nn.Bilinear):
    """Drop-in for :class:`torch.nn.Bilinear`, whose constructor, state and repr it inherits."""

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Maps ``(*, in1_features)`` and ``(*, in2_features)`` to ``(*, out_features)``."""
        return bilinear(input1, input2, self.weight, self.bias)


def _times(g: Tensor, w: Tensor, by_columns: bool) -> Tensor:
    """g w in the layout of x, as torch returns it."""
    if not by_columns:
        return g @ w.conj()
    return (w.mH @ _rows(g).mT).mT.reshape(*g.shape[:-1], w.shape[1])


def _conj(saved: Any) -> Any:
    return None if saved is None else saved.conj()


def _rows(tensor: Tensor) -> Tensor:
    # not reshape(-1, n): with zero elements the other size would be ambiguous
    return tensor if tensor.dim() == 2 else tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])


def _outer(g: Tensor, x: Tensor) -> Tensor:
    """The products g_no x_ni as ``(n, o i)``."""
    return (g.unsqueeze(-1) * x.unsqueeze(-2)).reshape(g.shape[0], g.shape[1] * x.shape[1])


def sum_to(terms: tuple[Tensor | None, ...], shape: tuple[int, ...]) -> Tensor:
    """The sum of the tangents that there are, in ``shape``."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]).expand(shape)


SPECS = (
    LayerSpec(
        Linear,
        torch.nn.Linear,
        (
            case((4, 8), in_features=8, out_features=3),
            case((8,), in_features=8, out_features=3),
            case((2, 3, 5, 8), in_features=8, out_features=3, bias=False),
            case((0, 8), in_features=8, out_features=3),
        ),
        large=case((1024, 1024), in_features=1024, out_features=1024),
    ),
    LayerSpec(
        LazyLinear,
        torch.nn.LazyLinear,
        (case((4, 8), out_features=3), case((1, 4, 8), out_features=3, bias=False)),
        large=case((1024, 1024), out_features=1024),
    ),
    LayerSpec(
        Bilinear,
        torch.nn.Bilinear,
        (
            case((4, 3), (4, 5), in1_features=3, in2_features=5, out_features=2),
            case((3,), (5,), in1_features=3, in2_features=5, out_features=2),
            case((2, 4, 3), (2, 4, 5), in1_features=3, in2_features=5, out_features=2, bias=False),
        ),
        large=case((4096, 256), (4096, 64), in1_features=256, in2_features=64, out_features=8),
    ),
)
