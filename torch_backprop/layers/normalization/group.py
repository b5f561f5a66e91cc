"""Group normalization. Wu & He (2018), arXiv:1803.08494, eqs. 1, 2, 6, 7.

The channels of a sample are cut into groups, each of which is standardized over its channels and positions;
h and J are those of ``moments``:

    forward   y = w h + b
    backward  dL/dx = J (w g)    dL/dw = sum g h    dL/db = sum g    (sums over samples and positions)

since y is affine in h element by element, and h has the symmetric Jacobian J.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.nn.functional import _verify_batch_size  # pyright: ignore[reportAttributeAccessIssue]

from torch_backprop.layers.normalization.channels import pull_channels
from torch_backprop.layers.normalization.moments import keep, pull_back, push_forward, returned, shaped
from torch_backprop.rule import FLOAT32, Rule, first_order, is_plain
from torch_backprop.spec import LayerSpec, case

DIMS = (2, 3)
"""Of ``(N, groups, channels of a group, positions)``, those that are standardized together."""


class GroupNormRule(Rule):
    """Saves x, w, m and r. Returns ``(y, m, r)``."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, w: Tensor | None, b: Tensor | None, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # channels that are last stay last
        x = x.contiguous(memory_format=suggest_memory_format(x)) if is_plain(x) else x.contiguous()
        # torch's kernel reads these as if they had no gaps
        w, b = (p if p is None else p.contiguous() for p in (w, b))
        samples, channels, *positions = x.shape
        return torch.native_group_norm(x, w, b, samples, channels, torch.Size(positions).numel(), groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, w, b, groups, ctx.eps = inputs
        samples, channels, *positions = x.shape
        ctx.shape = (groups, channels // groups, 1)
        ctx.grouped = (samples, *ctx.shape[:2], torch.Size(positions).numel())
        keep(ctx, (x, w, b), *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, w, m, r = ctx.saved_tensors
        needs_x = ctx.needs_input_grad[0]
        if x is not None and x.numel() and first_order(grad_y, x):
            grads = pull_channels(grad_y, x, w, m, r, False, needs_x)
        else:
            g, x, w = grad_y.reshape(ctx.grouped), shaped(x, ctx.grouped), shaped(w, ctx.shape)
            grads = pull_back(g, x, w, DIMS, ctx.eps, ctx.shape, needs_x)
        return returned(ctx, grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, None]:
        x, w, *_ = ctx.saved_tensors
        shapes = ctx.grouped, ctx.shape, ctx.shape
        tangents = tuple(map(shaped, tangents, shapes))
        tangent = push_forward(tangents, x.reshape(ctx.grouped), shaped(w, ctx.shape), DIMS, ctx.eps)
        return tangent.reshape(x.shape), None, None


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardizes groups of channels, then scales and shifts; as :func:`torch.nn.functional.group_norm`.

    Args:
        input: ``(N, C, *)``.
        num_groups: a divisor of C.
        weight: ``(C)``.
        bias: ``(C)``.
        eps: added to the variance.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, in torch's words.
        ValueError: a single value for each group, in torch's words.
    """
    if input.dim() < 2 or num_groups < 1 or input.shape[1] % num_groups:
        return F.group_norm(input, num_groups, weight, bias, eps)  # raises
    samples, channels, *positions = input.shape
    _verify_batch_size([samples * channels // num_groups, num_groups, *positions])
    return GroupNormRule.call(input, weight, bias, num_groups, eps)[0]


class GroupNorm(torch.nn.GroupNorm):
    """Drop-in for :class:`torch.nn.GroupNorm`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to the same shape."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


SPECS = (
    LayerSpec(
        GroupNorm,
        torch.nn.GroupNorm,
        (
            case((2, 4, 3, 2), num_groups=2, num_channels=4),
            case((2, 6, 3), num_groups=2, num_channels=6, bias=False, eps=0.1),
            case((3, 10), num_groups=2, num_channels=10, affine=False, eps=0.5),
            case((1, 3, 2, 2, 2), num_groups=3, num_channels=3),
        ),
        large=case((32, 64, 32, 32), num_groups=8, num_channels=64),
    ),
)
