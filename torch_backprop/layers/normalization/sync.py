"""Batch normalization over the batches of several processes.

That of ``batch``, with h and J over the samples of all processes, n in number for a channel:

    forward   m = sum x / n    v = sum (x - m)^2 / n    r = (v + eps)^(-1/2)    h = (x - m) r    y = w h + b
    backward  dL/dx = J (w g) = r (w g - sum(w g) / n - h sum(w g h) / n)
              dL/dw = sum g h    dL/db = sum g    (over the process's own samples, as in torch)

The one non-obvious step: a sum over processes is its own transpose, by which a gradient is pulled back
(Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 8.35-8.37 and 6.46). The gradient of what each
of them gets is summed over them again, to any order of derivatives.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module

from torch_backprop.layers.loss.reduction import sum_to
from torch_backprop.layers.normalization.batch import normalized
from torch_backprop.layers.normalization.moments import keep, returned, shaped
from torch_backprop.rule import Rule, first_order, widen
from torch_backprop.spec import LayerSpec, case


class AllReduceRule(Rule):
    """The sum over the processes of a group, which every one of them gets. Saves nothing."""

    @staticmethod
    def forward(x: Tensor, group: Any) -> Tensor:
        y = x.clone()
        dist.all_reduce(y, group=group)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        # each process's x is in the sums of all: the transpose of a sum for all is a sum over all
        return AllReduceRule.call(grad_y, ctx.group), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        return AllReduceRule.call(tangent_x, ctx.group)


class SyncBatchNormRule(Rule):
    """Saves x, w, m and r. Returns ``(y, m, r)``; n is the number of samples of all processes."""

    @staticmethod
    def forward(
        x: Tensor, w: Tensor | None, b: Tensor | None, n: float, group: Any, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        h, m, r = _standardized(widen(x), n, group, eps)
        y = h if w is None else h * w.reshape(r.shape)
        y = y if b is None else y + b.reshape(r.shape)
        return y.to(x.dtype), m, r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, w, b, ctx.n, ctx.group, ctx.eps = inputs
        ctx.shape = (x.shape[1], *(1 for _ in x.shape[2:]))
        keep(ctx, (x, w, b), *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, w, m, r = ctx.saved_tensors
        g, grad_x, grad_w = widen(grad_y), None, None
        if x is not None:
            if first_order(grad_y, x):
                h = (widen(x) - m) * r
            else:
                h, m, r = _standardized(widen(x), ctx.n, ctx.group, ctx.eps)
            # of this process alone: who synchronizes parameters sums their gradients
            grad_w = sum_to(g * h, ctx.shape)
            if ctx.needs_input_grad[0]:
                weighted = g if w is None else g * w.reshape(ctx.shape)
                grad_x = _turned(weighted, h, r, ctx.n, ctx.group)
        return returned(ctx, (grad_x, grad_w, sum_to(g, ctx.shape)))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, None]:
        x, w = ctx.saved_tensors[:2]
        tangent_x, tangent_w, tangent_b = tangents[0], *(shaped(t, ctx.shape) for t in tangents[1:3])
        h, _, r = _standardized(widen(x), ctx.n, ctx.group, ctx.eps)
        # every process takes part in the sum, whether its own x moves or not
        t = torch.zeros_like(h) if tangent_x is None else widen(tangent_x)
        turn = _turned(t, h, r, ctx.n, ctx.group)
        tangent = turn if w is None else turn * w.reshape(ctx.shape)
        tangent = tangent if tangent_w is None else tangent + h * tangent_w
        tangent = tangent if tangent_b is None else tangent + tangent_b
        return tangent.to(x.dtype), None, None


def sync_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    group: Any,
) -> Tensor:
    """``batch_norm`` in training over the samples of all processes of ``group``, on any device.

    Every process must take part, though its own ``input`` be empty.
    """
    count = widen(input).new_tensor([input.numel() // input.shape[1]])
    n = float(AllReduceRule.call(count, group))
    y, m, r = SyncBatchNormRule.call(input, weight, bias, n, group, eps)
    if running_mean is not None and running_var is not None:
        unbiased = (r**-2 - eps) * (n / (n - 1))
        for buffer, statistic in ((running_mean, m), (running_var, unbiased)):
            buffer.lerp_(statistic.detach().reshape(buffer.shape).to(buffer.dtype), momentum)
    return y


class SyncBatchNorm(torch.nn.SyncBatchNorm):
    """Drop-in for :class:`torch.nn.SyncBatchNorm`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to the same shape; in training, with the moments over all processes."""
        self._check_input_dim(input)
        self._check_non_zero_input_channels(input)
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return normalized(self, input)
        if input.device.type != "cuda":
            return super().forward(input)  # raises on the CPU
        group = self.process_group or dist.group.WORLD
        if dist.get_world_size(group) == 1:
            return normalized(self, input)
        return normalized(self, input, partial(sync_batch_norm, group=group))

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """``module`` with this class, and with its state, in the place of every batch normalization.

        Args:
            module: of any modules; changed in place, but for a single layer.
            process_group: whose processes share their moments. Default: all.
        """
        converted = super().convert_sync_batchnorm(module, process_group)
        for layer in converted.modules():
            # of whatever class it was, torch makes it one of its own
            if type(layer) is torch.nn.SyncBatchNorm:
                layer.__class__ = cls
        return converted


def _standardized(x: Tensor, n: float, group: Any, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """h, m and r over the samples of all processes, in differentiable operators."""
    dims = (0, *range(2, x.dim()))
    m = AllReduceRule.call(x.sum(dims, keepdim=True), group) / n
    d = x - m
    r = torch.rsqrt(AllReduceRule.call((d * d).sum(dims, keepdim=True), group) / n + eps)
    return d * r, m, r


def _turned(t: Tensor, h: Tensor, r: Tensor, n: float, group: Any) -> Tensor:
    """J t."""
    dims = (0, *range(2, t.dim()))
    sums = torch.stack((t.sum(dims, keepdim=True), (t * h).sum(dims, keepdim=True)))
    mean, along = (AllReduceRule.call(sums, group) / n).unbind()
    return r * (t - mean - h * along)


SPECS = (
    LayerSpec(
        SyncBatchNorm,
        torch.nn.SyncBatchNorm,
        (case((4, 3), num_features=3), case((2, 3, 2, 2), num_features=3, train=False)),
        large=case((32, 64, 32, 32), num_features=64),
    ),
)
