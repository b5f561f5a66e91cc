"""Activations with a slope that is learned or drawn, and the gated linear unit.

PReLU, with one slope w for all channels or one for each. He et al. (2015), arXiv:1502.01852, eqs. 1-3:

    forward   y = x if x > 0 else w x
    backward  dL/dx = g if x > 0 else w g     dL/dw = sum over its channel of x g where x <= 0

since one slope serves every element of its channel, and what it gets from them adds up.

RReLU draws a slope r in [lower, upper] for each x <= 0, and r = 1 above. Xu et al. (2015), arXiv:1505.00853,
section 2.4:

    forward   y = r x                          backward  dL/dx = r g

since r, once drawn, is a constant.

GLU halves x = (a, b) along a dimension. Dauphin et al. (2017), arXiv:1612.08083, eqs. 1 and 3:

    forward   y = a s, s = sigmoid(b)          backward  dL/da = g s     dL/db = g a s (1 - s)

since each factor of a product gets g times the other, and s' = s (1 - s).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import select
from torch_backprop.layers.pieces import bend, pieces
from torch_backprop.rule import LOWER, Rule, is_batched, is_for_others, save, widen
from torch_backprop.spec import LayerSpec, case


class PReLURule(Rule):
    """Saves x, and w if the input's gradient is needed."""

    autocast = {"cpu": LOWER, "cuda": LOWER}

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return F.prelu(x, w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        x, w = inputs
        # both gradients need the sign of x, which y loses where w is negative
        ctx.save_for_backward(x, w if ctx.needs_input_grad[0] else None)
        ctx.save_for_forward(x, w)
        ctx.w_shape = w.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        needs_x, needs_w = ctx.needs_input_grad
        g = widen(grad_y)
        grad_x = select(g, _along_channels(w, x) * g, torch.gt, x, 0).to(x.dtype) if needs_x else None
        grad_w = None
        if needs_w:
            below = torch.where(x > 0, 0, widen(x) * g)
            # dimension 1 is that of the channels, as in torch, whatever comes after it
            others = [dim for dim in range(x.dim()) if dim != 1]
            total = below.sum() if ctx.w_shape.numel() == 1 else below.sum(others)
            grad_w = total.reshape(ctx.w_shape).to(x.dtype)
        return grad_x, grad_w

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_w: Tensor | None) -> Tensor:
        x, w = ctx.saved_tensors
        by_x = 0 if tangent_x is None else torch.where(x > 0, tangent_x, _along_channels(w, x) * tangent_x)
        by_w = 0 if tangent_w is None else torch.where(x > 0, 0, x * _along_channels(tangent_w, x))
        # one of the two may be missing, and is 0 then
        return torch.as_tensor(by_x + by_w).to(x.dtype)


def _mean_slope(lower: float, upper: float) -> float:
    return (lower + upper) / 2


def _mean_rrelu(x: Tensor, lower: float, upper: float, inplace: bool = False) -> Tensor:
    # vmap knows the one of the two that draws nothing
    if is_batched(x):
        return F.leaky_relu(x, _mean_slope(lower, upper), inplace)
    return F.rrelu(x, lower, upper, inplace=inplace)


mean_rrelu_rule = pieces(
    _mean_rrelu,
    lambda x, lower, upper: x > 0,
    lambda out, x, lower, upper: torch.gt(x, 0, out=out),
    lambda lower, upper: (_mean_slope(lower, upper), 1),
)


class RReLURule(Rule):
    """Saves r, and nothing else. Returns ``(y, r, link)``.

    The empty link ties the gradient to x: its second derivative is zero, as in torch, and not missing.
    """

    @staticmethod
    def forward(x: Tensor, lower: float, upper: float) -> tuple[Tensor, Tensor, Tensor]:
        r = torch.ones_like(x, memory_format=torch.contiguous_format)  # torch fills it in that order
        return torch.ops.aten.rrelu_with_noise(x, r, lower, upper, True), r, x.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, r, link = output
        ctx.mark_non_differentiable(r)
        save(ctx, r, link)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        r, link = ctx.saved_tensors
        grad_x = grad_y * r
        return grad_x + link.sum() if torch.is_grad_enabled() else grad_x, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None, Tensor]:
        r, link = ctx.saved_tensors
        return tangent_x * r, None, torch.zeros_like(link)


class GLURule(Rule):
    """Saves x; the gate is computed again."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return F.glu(x, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        x, ctx.dim = inputs
        save(ctx, x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        a, b = widen(x).chunk(2, ctx.dim)
        s, g = torch.sigmoid(b), widen(grad_y)
        # both halves at once: x was one tensor
        return torch.cat((g * s, g * a * s * (1 - s)), ctx.dim).to(x.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        (x,) = ctx.saved_tensors
        a, b = x.chunk(2, ctx.dim)
        tangent_a, tangent_b = tangent_x.chunk(2, ctx.dim)
        s = torch.sigmoid(b)
        return tangent_a * s + a * s * (1 - s) * tangent_b


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0 and weight x below; as :func:`torch.nn.functional.prelu`.

    Args:
        input: ``(N, C, *)``, or any shape with a single weight.
        weight: ``(C)``, ``(1)`` or ``()``.

    Raises:
        RuntimeError: a weight for each channel that the input does not have, in torch's words.
    """
    return PReLURule.call(input, weight)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """leaky_relu with slopes drawn in training; as :func:`torch.nn.functional.rrelu`."""
    if not training:
        return bend(mean_rrelu_rule, input, inplace, lower, upper)
    # torch refuses bounds in the wrong order, in its own words
    if lower > upper or (inplace and is_for_others()):
        return F.rrelu(input, lower, upper, True, inplace)
    y, *_ = RReLURule.call(input, lower, upper)
    # r has been drawn: what x was is not needed again
    return input.copy_(y) if inplace else y


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of the input gated by the second; as :func:`torch.nn.functional.glu`.

    Args:
        input: ``(*, 2 n, *)``.
        dim: the dimension of size 2 n.

    Returns:
        ``(*, n, *)``.

    Raises:
        RuntimeError: a 0-dim input, or an odd size, in torch's words.
    """
    return GLURule.call(input, dim)


class PReLU(torch.nn.PReLU):
    """Drop-in for :class:`torch.nn.PReLU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to ``(N, C, *)``."""
        return prelu(input, self.weight)


class RReLU(torch.nn.RReLU):
    """Drop-in for :class:`torch.nn.RReLU`; draws the random numbers that it would draw.

    Under vmap it draws none, as torch: their operator has no batching rule.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return rrelu(input, self.lower, self.upper, self.training, self.inplace)


class GLU(torch.nn.GLU):
    """Drop-in for :class:`torch.nn.GLU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, 2 n, *)`` to ``(*, n, *)``."""
        return glu(input, self.dim)


def _along_channels(w: Tensor, x: Tensor) -> Tensor:
    w = widen(w)
    return w.reshape(()) if w.numel() == 1 else w.reshape(-1, *(1 for _ in range(x.dim() - 2)))


SPECS = (
    LayerSpec(
        PReLU,
        torch.nn.PReLU,
        (case((3, 4)), case((2, 3, 4, 2), num_parameters=3), case((3, 2), num_parameters=2), case(())),
    ),
    LayerSpec(
        RReLU,
        torch.nn.RReLU,
        (case((3, 4)), case((3, 4), lower=0.1, upper=0.9, inplace=True), case((3, 4), train=False)),
    ),
    LayerSpec(GLU, torch.nn.GLU, (case((3, 4)), case((2, 6, 3), dim=1))),
)
