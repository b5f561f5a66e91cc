"""Batch normalization. Ioffe & Szegedy (2015), arXiv:1502.03167, algorithm 1 and section 3.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 8.35-8.37.

In training each channel is standardized over the samples and positions of the batch, h and J those of
``moments``; in evaluation with the running mean m and variance v, which are constants, r = (v + eps)^(-1/2):

    forward               y = w h + b
    backward, training    dL/dx = J (w g)    dL/dw = sum g h            dL/db = sum g
    backward, evaluation  dL/dx = r w g      dL/dw = sum g r (x - m)    dL/db = sum g

with sums over samples and positions; since of y only h depends on x, in training with the symmetric Jacobian
J, in evaluation with the slope r.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import _verify_batch_size  # pyright: ignore[reportAttributeAccessIssue]

from torch_backprop.layers.loss.reduction import sum_to
from torch_backprop.layers.normalization.channels import Channels, are_last, pull_channels
from torch_backprop.layers.normalization.moments import keep, pull_back, push_forward, returned, shaped
from torch_backprop.rule import Rule, first_order, is_plain, wanted, widen
from torch_backprop.spec import LayerSpec, case


class BatchNormRule(Rule):
    """Saves x, w, m and r; updates the running statistics in its forward pass. Returns ``(y, m, r)``."""

    @staticmethod
    def forward(
        x: Tensor,
        w: Tensor | None,
        b: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _forward(x, w, b, running_mean, running_var, True, momentum, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, w, b, *_, ctx.eps = inputs
        ctx.dims = (0, *range(2, x.dim()))
        ctx.shape = (x.shape[1], *(1 for _ in ctx.dims[1:]))
        keep(ctx, (x, w, b), *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, w, m, r = ctx.saved_tensors
        needs_x = ctx.needs_input_grad[0]
        if x is not None and x.numel() and first_order(grad_y, x):
            grads = pull_channels(grad_y, x, w, m, r, True, needs_x)
        else:
            grads = pull_back(grad_y, x, shaped(w, ctx.shape), ctx.dims, ctx.eps, ctx.shape, needs_x)
        return returned(ctx, grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, None]:
        x, w, *_ = ctx.saved_tensors
        tangents = tangents[0], *(shaped(tangent, ctx.shape) for tangent in tangents[1:3])
        return push_forward(tangents, x, shaped(w, ctx.shape), ctx.dims, ctx.eps), None, None


class RunningNormRule(Rule):
    """Evaluation. Saves the running statistics, x if w needs a gradient, and w if x does."""

    @staticmethod
    def forward(
        x: Tensor, w: Tensor | None, b: Tensor | None, running_mean: Tensor, running_var: Tensor, eps: float
    ) -> Tensor:
        return _forward(x, w, b, running_mean, running_var, False, 0.0, eps)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, b, m, v, ctx.eps = inputs
        needs_x, needs_w, *_ = ctx.needs_input_grad
        ctx.save_for_backward(
            x if needs_w else None,
            w if needs_x else None,
            m if needs_w else None,
            v if needs_x or needs_w else None,
        )
        ctx.save_for_forward(x, w, m, v)
        ctx.like = tuple(None if a is None else (a.shape, a.dtype) for a in (x, w, b))
        ctx.shape = (x.shape[1], *(1 for _ in x.shape[2:]))
        ctx.last = is_plain(x) and are_last(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, w, m, v = ctx.saved_tensors
        needs_x, needs_w, needs_b = ctx.needs_input_grad[:3]
        grad_x = grad_w = grad_b = None
        g = widen(grad_y)
        if needs_x:
            grad_x = g * _scale(w, v, ctx)
            # laid out as x, even if g is not
            grad_x = grad_x.movedim(1, -1).contiguous().movedim(-1, 1) if ctx.last else grad_x
        if needs_w and x.numel() and first_order(grad_y, x):
            layout = Channels.of(x, True)
            grad_b, by_d = layout.sums(grad_y, x, m.unsqueeze(0), torch.empty_like(layout.seen(x)))
            grad_w = by_d * torch.rsqrt(widen(v) + ctx.eps)
        else:
            grad_w = sum_to(g * _standardized(x, m, v, ctx), ctx.shape) if needs_w else None
            grad_b = sum_to(g, ctx.shape) if needs_b else None
        return returned(ctx, (grad_x, grad_w, grad_b))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, w, m, v = ctx.saved_tensors
        tangent_x, *of_channels = tangents[:5]
        tangent_w, tangent_b, tangent_m, tangent_v = (shaped(t, ctx.shape) for t in of_channels)
        scale, x_hat = _scale(w, v, ctx), _standardized(x, m, v, ctx)
        tangent: Any = torch.zeros_like(x_hat)
        tangent = tangent if tangent_x is None else tangent_x * scale
        tangent = tangent if tangent_w is None else tangent + tangent_w * x_hat
        tangent = tangent if tangent_b is None else tangent + tangent_b
        # running statistics have no gradients, as in torch, but tangents, which torch takes for 0
        tangent = tangent if tangent_m is None else tangent - tangent_m * scale
        if tangent_v is not None:
            tangent = tangent - tangent_v * x_hat * scale * _scale(None, v, ctx) / 2
        return tangent.to(x.dtype)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardizes each channel, then scales and shifts; as :func:`torch.nn.functional.batch_norm`.

    Args:
        input: ``(N, C, *)``.
        running_mean: ``(C)``; in training it moves towards the mean of the batch, else it is used for it.
        running_var: ``(C)``, the same of the variance.
        weight: ``(C)``.
        bias: ``(C)``.
        training: whether to standardize with the moments of the batch.
        momentum: the share of the batch in the running statistics, in [0, 1].
        eps: added to the variance.

    Raises:
        ValueError: a single value for each channel, or an eps that is not positive, in training, in torch's
            words.
        RuntimeError: shapes or dtypes that do not fit, or running statistics that require a gradient, in
            torch's words.
    """
    arguments = input, weight, bias, running_mean, running_var
    constant = not differentiated(running_mean, running_var)
    if training and eps > 0 and input.dim() > 1 and constant:
        _verify_batch_size(input.size())
        return BatchNormRule.call(*arguments, momentum, eps)[0]
    tracked = running_mean is not None and running_var is not None and constant
    if training or eps < 0 or input.dim() < 2 or not tracked:
        # raises
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return RunningNormRule.call(*arguments, eps)


def differentiated(*statistics: Tensor | None) -> bool:
    """Whether a gradient of running statistics is asked for, which torch refuses."""
    return torch.is_grad_enabled() and any(map(wanted, statistics))


def normalized(layer: Any, input: Tensor, function: Callable[..., Tensor] = batch_norm) -> Tensor:
    """What a layer of batch normalization makes of its input; its buffers are updated in training.

    As in torch, buffers that are updated must be batched by a vmap that batches the input.
    """
    layer._check_input_dim(input)
    momentum = 0.0 if layer.momentum is None else layer.momentum
    if layer.training and layer.track_running_stats and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        # without a momentum, the average over all batches
        momentum = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else momentum
    untracked = layer.training and not layer.track_running_stats
    mean, var = (None, None) if untracked else (layer.running_mean, layer.running_var)
    by_batch = layer.training or (layer.running_mean is None and layer.running_var is None)
    return function(input, mean, var, layer.weight, layer.bias, by_batch, momentum, layer.eps)


class BatchNorm1d(torch.nn.BatchNorm1d):
    """Drop-in for :class:`torch.nn.BatchNorm1d`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C)`` or ``(N, C, L)`` to the same shape."""
        return normalized(self, input)


class BatchNorm2d(torch.nn.BatchNorm2d):
    """Drop-in for :class:`torch.nn.BatchNorm2d`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same shape."""
        return normalized(self, input)


class BatchNorm3d(torch.nn.BatchNorm3d):
    """Drop-in for :class:`torch.nn.BatchNorm3d`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to the same shape."""
        return normalized(self, input)


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    if torch._C._get_tracing_state() is not None:
        # a trace holds tensors alone, and the operator below returns a number too
        return torch.native_batch_norm(*arguments)
    # what torch.batch_norm itself calls: it checks shapes, and returns the statistics with y
    y, m, r, *_ = torch.ops.aten._batch_norm_impl_index(*arguments, torch.backends.cudnn.enabled)
    return y, m, r


def _scale(w: Tensor | None, v: Tensor, ctx: Any) -> Tensor:
    r = torch.rsqrt(widen(v) + ctx.eps)
    return (r if w is None else r * widen(w)).reshape(ctx.shape)


def _standardized(x: Tensor, m: Tensor, v: Tensor, ctx: Any) -> Tensor:
    return (widen(x) - m.reshape(ctx.shape)) * _scale(None, v, ctx)


SPECS = (
    LayerSpec(
        BatchNorm1d,
        torch.nn.BatchNorm1d,
        (
            case((4, 3), num_features=3),
            case((4, 3), num_features=3, train=False),
            case((2, 3, 4), num_features=3, momentum=None, bias=False),
            case((2, 3, 4), num_features=3, affine=False, track_running_stats=False, train=False),
        ),
        large=case((8192, 256), num_features=256),
    ),
    LayerSpec(
        BatchNorm2d,
        torch.nn.BatchNorm2d,
        (
            case((2, 5, 4, 2), num_features=5, eps=0.1),
            case((2, 3, 4, 2), num_features=3, train=False),
            case((2, 3, 2, 2), num_features=3, track_running_stats=False),
        ),
        large=case((32, 64, 32, 32), num_features=64),
    ),
    LayerSpec(
        BatchNorm3d,
        torch.nn.BatchNorm3d,
        (
            case((2, 3, 2, 2, 2), num_features=3, momentum=0.3),
            case((2, 3, 2, 1, 2), num_features=3, affine=False, train=False),
        ),
        large=case((4, 32, 16, 32, 32), num_features=32),
    ),
)
