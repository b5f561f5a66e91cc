"""Cross entropy of a linear map of the input, without all of its logits at once.

Of sample i with target class t, class weights v (or 1), and u_i what reaches the sample's loss: g_i, or g, or
g / sum_i v_t; 0 for ignored samples:

    forward   z_ic = sum_k x_ik w_ck + b_c       l_i = v_t (log sum_c exp z_ic - z_it)
    backward  dL/dz_ic = u_i v_t (p_ic - [c = t]), p = softmax(z)
              dL/dx = dL/dz w      dL/dw = dL/dz^T x      dL/db_c = sum_i dL/dz_ic

A few samples at a time, dL/dz takes the place of z in one buffer. For a sum or a mean all but the factor g is
known in forward, where z is, and the three gradients are accumulated there; without a reduction z is computed
again in backward. Source of the scheme: Hsu et al. (2024), arXiv:2410.10989, section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from torch_backprop.layers.linear import _times as times
from torch_backprop.layers.linear import linear
from torch_backprop.layers.loss.cross_entropy import cross_entropy
from torch_backprop.layers.loss.reduction import reduced
from torch_backprop.layers.loss.samples import Samples
from torch_backprop.rule import Rule, first_order, is_plain, save, wanted, widen
from torch_backprop.spec import Draw, LayerSpec, case

CHUNK = 1 << 20
"""Logits of a chunk, where the options do not say."""


class LinearCrossEntropyRule(Rule):
    """Saves x, t, w, b and v, and for a sum or a mean their gradients.

    Returns ``(loss, grad_x, grad_w, grad_b)``. The gradients are those of the loss itself, for the
    first-order path; empty where they are not needed or not computed.
    """

    @staticmethod
    def forward(
        x: Tensor,
        t: Tensor,
        w: Tensor,
        b: Tensor | None,
        v: Tensor | None,
        reduction: str,
        ignore_index: int,
        rows: int,
        needs: int,
    ) -> tuple[Tensor, ...]:
        samples = Samples.like(2, widen(x).dtype, t, v, ignore_index)
        total = samples.weights.sum()
        early = reduction != "none" and needs > 0 and is_plain(x)
        u = samples.upstream(torch.ones_like(total), reduction) if early else None
        losses, grads = _by_chunks(
            x, w, b, samples, u, rows, [early and bool(needs >> i & 1) for i in range(3)]
        )
        loss = reduced(losses, reduction, total).to(x.dtype)
        return loss, *(x.new_zeros(0) if grad is None else grad for grad in grads)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *residuals, ctx.reduction, ctx.ignore_index, ctx.rows, _ = inputs
        ctx.by_columns = inputs[0].stride() == (1, inputs[0].shape[0])
        ctx.mark_non_differentiable(*output[1:])
        save(ctx, *residuals, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w, b, v, *early = ctx.saved_tensors
        grads: list[Any]
        needs = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        pairs = list(zip(early, needs, strict=True))
        if first_order(grad_y, x) and all(grad.numel() or not need for grad, need in pairs):
            grads = [grad * grad_y if need else None for grad, need in pairs]
            if grads[0] is not None:
                # chosen, not multiplied: an ignored sample's gradient is 0 even of an infinite one
                grads[0] = torch.where(early[0] == 0, 0, grads[0])
        else:
            samples = Samples.like(2, widen(x).dtype, t, v, ctx.ignore_index)
            u = samples.upstream(widen(grad_y), ctx.reduction)
            if first_order(grad_y, x):
                grads = _by_chunks(x, w, b, samples, u, ctx.rows, needs)[1]
            else:
                grad_z = _slopes(F.linear(x, w, b), samples, u).to(x.dtype)
                grads = [
                    times(grad_z, w, ctx.by_columns) if needs[0] else None,
                    grad_z.mT @ x if needs[1] else None,
                    grad_z.sum(0) if needs[2] else None,
                ]
        return grads[0], None, *grads[1:], None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Any, ...]:
        x, t, w, b, v, *_ = ctx.saved_tensors
        tangent_x, _, tangent_w, tangent_b, *_ = tangents
        moved = torch.zeros_like(x[:, :1]) if tangent_b is None else tangent_b
        moved = moved if tangent_x is None else moved + tangent_x @ w.mT
        moved = moved if tangent_w is None else moved + x @ tangent_w.mT
        samples = Samples.like(2, x.dtype, t, v, ctx.ignore_index)
        slopes = _slopes(F.linear(x, w, b), samples, samples.valid.to(x.dtype))
        tangent = reduced((slopes * moved).sum(1), ctx.reduction, samples.weights.sum())
        return tangent, None, None, None


def _slopes(z: Tensor, samples: Samples, u: Tensor) -> Tensor:
    """dL/dz, in differentiable operators."""
    column = samples.weights * u
    return samples.scatter(torch.softmax(widen(z), 1) * column.unsqueeze(1), -column)


def _by_chunks(
    x: Tensor, w: Tensor, b: Tensor | None, samples: Samples, u: Tensor | None, rows: int, needs: list[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The losses, and where u is given the gradients of x, w and b, ``rows`` samples at a time."""
    losses, start = [], 0
    grad_x = torch.empty_like(x) if needs[0] else None
    # in half precision the sums over chunks would lose what is small
    grad_w = torch.zeros_like(widen(w)) if needs[1] else None
    grad_b = widen(w).new_zeros(w.shape[0]) if needs[2] else None
    parts = (
        x,
        samples.target,
        samples.weights,
        samples.valid,
        torch.zeros_like(samples.weights) if u is None else u,
    )
    for x_rows, target, weights, valid, u_rows in zip(
        *(part.split(max(rows, 1)) for part in parts), strict=True
    ):
        z = widen(F.linear(x_rows, w, b))
        # large logits have no digits left for their sum of exponentials
        z.sub_(z.amax(1, keepdim=True))
        chunk = Samples(1, target, weights, valid)
        height = torch.logsumexp(z, 1)
        losses.append(weights * torch.where(valid, height - chunk.gather(z), 0))
        if not any(needs):
            continue
        column = (weights * u_rows).unsqueeze(1)
        # the gradient takes the place of the logits
        z.sub_(height.unsqueeze(1)).exp_().mul_(column).scatter_add_(1, target.unsqueeze(1), -column)
        grad_z = z.to(x.dtype)
        if grad_x is not None:
            grad_x[start : start + len(x_rows)] = grad_z @ w
            start += len(x_rows)
        if grad_w is not None:
            grad_w.addmm_(z.mT, widen(x_rows))
        if grad_b is not None:
            grad_b.add_(z.sum(0))
    grads = (grad_x, grad_w, grad_b)
    return torch.cat(losses), [None if grad is None else grad.to(x.dtype) for grad in grads]


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
) -> Tensor:
    """Cross entropy of x w^T + b; as :func:`torch.nn.functional.linear_cross_entropy`.

    Args:
        input: ``(N, in_features)`` or ``(in_features)``.
        linear_weight: ``(C, *, in_features)``.
        target: class indices ``(N, *)`` or ``()``, or class probabilities ``(N, C, *)``.
        linear_bias: ``(C, *)``.
        weight: ``(C)``, of the classes.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``, as for :func:`cross_entropy`.
        ignore_index: the class index that counts for nothing.
        label_smoothing: the part of the target, in [0, 1], spread evenly over the classes.
        options: torch's; what they say of the size of chunks is heeded. The gradient may be asked for twice,
            and has derivatives, whatever they say.

    Returns:
        ``()``, or ``(N, *)`` without a reduction; in nats.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, in torch's words.
    """
    # what torch refuses, it refuses itself, in its own words
    shape = linear_weight.shape
    logits = (*input.shape[:-1], *shape[:-1])
    if (
        input.dim() not in (1, 2)
        or len(shape) < 2
        or input.shape[-1] != shape[-1]
        or (linear_bias is not None and linear_bias.shape != shape[:-1])
        or (len(shape) > 2 and input.dim() == 1)
        or (target.shape == logits and ignore_index is not None)
    ):
        return F.linear_cross_entropy(
            input, linear_weight, target, linear_bias=linear_bias, ignore_index=ignore_index
        )
    ignored = -100 if ignore_index is None else ignore_index
    tensors = (input, linear_weight, linear_bias)
    if _is_chunked(*tensors, target, weight, reduction, ignored, label_smoothing, options):
        rows = max(1, CHUNK // shape[0])
        if options is not None:
            given = (input.shape[0], shape[-1], shape[0], input.dtype, input.device)
            rows = options._adjust(*given).batch_chunk_size
        needs = sum(1 << i for i, x in enumerate(tensors) if wanted(x) and torch.is_grad_enabled())
        rule_options = (reduction, ignored, rows, needs)
        return LinearCrossEntropyRule.call(input, target, linear_weight, linear_bias, weight, *rule_options)[
            0
        ]
    flat = None if linear_bias is None else linear_bias.reshape(-1)
    z = linear(input, linear_weight.reshape(-1, shape[-1]), flat).reshape(logits)
    return cross_entropy(
        z, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
    )


def _is_chunked(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    t: Tensor,
    v: Tensor | None,
    reduction: str,
    ignored: int,
    smoothing: float,
    options: LinearCrossEntropyOptions | None,
) -> bool:
    """Whether the rule applies, and holds less than the logits."""
    applies = (
        x.dim() == w.dim() == 2
        and t.dtype == torch.int64
        and t.shape == x.shape[:1]
        and t.numel() > 0
        and smoothing == 0
        and reduction in ("none", "mean", "sum")
        and x.is_floating_point()
        and x.dtype == w.dtype
        and (x.is_meta or not torch.is_autocast_enabled(x.device.type))
        and not wanted(v)
    )
    if not applies or (options is None and x.numel() + w.numel() >= len(x) * len(w)):
        return False
    # only torch has the words for a target that is no class
    return not is_plain(t) or bool(((t == ignored) | (t >= 0) & (t < len(w))).all())


class LinearCrossEntropyLoss(torch.nn.LinearCrossEntropyLoss):
    """Drop-in for :class:`torch.nn.LinearCrossEntropyLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, in_features)`` and ``(N, *)`` to ``()``, or ``(N, *)`` without a reduction."""
        shape = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


def _classes(*shape: int, classes: int = 40) -> Draw:
    return Draw(shape, "classes", classes)


def _weights() -> Draw:
    return Draw((40,), "unit")


SPECS = (
    LayerSpec(
        LinearCrossEntropyLoss,
        torch.nn.LinearCrossEntropyLoss,
        (
            case((24, 2), _classes(24), in_features=2, num_classes=40, bias=True),
            case((24, 2), _classes(24), in_features=2, num_classes=40, reduction="none", weight=_weights()),
            case((24, 2), _classes(24), in_features=2, num_classes=40, reduction="sum", ignore_index=3),
            case(
                (3, 4),
                _classes(3, 2, classes=5),
                in_features=4,
                num_classes=5,
                out_features=(2,),
                label_smoothing=0.1,
            ),
        ),
        large=case((2048, 512), Draw((2048,), "classes", 8000), in_features=512, num_classes=8000),
    ),
)
