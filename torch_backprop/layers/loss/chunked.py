"""The rule of the cross entropy of a linear map, without all of its logits at once.

Of sample i with target class t, class weights v (or 1), and u_i what reaches the sample's loss: g_i, or g, or
g / sum_i v_t; 0 for ignored samples:

    forward   z_ic = sum_k x_ik w_ck + b_c       l_i = v_t (log sum_c exp z_ic - z_it)
    backward  dL/dz_ic = u_i v_t (p_ic - [c = t]), p = softmax(z)
              dL/dx = dL/dz w      dL/dw = dL/dz^T x      dL/db_c = sum_i dL/dz_ic

since d log p_t / d z_c = [c = t] - p_c. Bishop (2006), "Pattern recognition and machine learning", eq. 4.109.

A few samples at a time, dL/dz takes the place of z in one buffer. For a sum or a mean all but the factor g is
known in forward, where z is, and the three gradients are accumulated there; without a reduction, or where the
options ask for chunks and the gradients are larger than x, z is computed again in backward. Source of the
scheme: Hsu et al. (2024), arXiv:2410.10989, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from torch_backprop.layers.linear import _times as times
from torch_backprop.layers.loss.reduction import reduced
from torch_backprop.layers.loss.samples import Samples
from torch_backprop.rule import Rule, by_autograd, first_order, is_plain, save, wanted, widen

CHUNK = 1 << 20
"""Logits of a chunk, where the options do not say."""


@dataclass(frozen=True)
class Chunks:
    """How the rule goes through the samples.

    Attributes:
        rows: the samples of a chunk.
        needs: whether x, w and b have their gradients computed in forward, a bit each.
        compact: whether w's gradient is summed in its own dtype; else half precision is summed in single.
        alone: whether these gradients are all that is kept.
    """

    rows: int
    needs: int
    compact: bool
    alone: bool = False

    @classmethod
    def of(
        cls,
        x: Tensor,
        t: Tensor,
        w: Tensor,
        b: Tensor | None,
        v: Tensor | None,
        reduction: str,
        options: LinearCrossEntropyOptions | None,
    ) -> Chunks:
        """What adjusted ``options`` ask for; without any, chunks of about ``CHUNK`` logits."""
        learning = [y if wanted(y) and torch.is_grad_enabled() else None for y in (x, w, b)]
        needs = sum(1 << i for i, y in enumerate(learning) if y is not None)
        if options is None:
            return cls(max(1, CHUNK // len(w)), needs, False)
        compact = options.acc_policy == "compact" and (x.is_cuda or options.acc_dtype == x.dtype)
        # who asks for chunks would hold little: gradients, as torch, or what they are computed from
        alone = reduction != "none" and by_autograd(x, w, b) and _bytes(*learning) < _bytes(x, t, v)
        return cls(options.batch_chunk_size or len(x), needs if alone else 0, compact, alone)


class LinearCrossEntropyRule(Rule):
    """Saves x, t, w, b and v, and for a sum or a mean their gradients; or these alone.

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
        chunks: Chunks,
    ) -> tuple[Tensor, ...]:
        samples = Samples.like(2, widen(x).dtype, t, v, ignore_index)
        total = samples.weights.sum()
        plain = is_plain(x) and is_plain(w) and (b is None or is_plain(b))
        early = reduction != "none" and chunks.needs > 0 and plain
        u = samples.upstream(torch.ones_like(total), reduction) if early else None
        needs = [early and bool(chunks.needs >> i & 1) for i in range(3)]
        losses, grads = _by_chunks(x, w, b, samples, u, chunks, needs)
        loss = reduced(losses, reduction, total).to(x.dtype)
        return loss, *(x.new_zeros(0) if grad is None else grad for grad in grads)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *residuals, ctx.reduction, ctx.ignore_index, ctx.chunks = inputs
        ctx.by_columns = inputs[0].stride() == (1, inputs[0].shape[0])
        ctx.mark_non_differentiable(*output[1:])
        save(ctx, *(None if ctx.chunks.alone else y for y in residuals), *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w, b, v, *early = ctx.saved_tensors
        grads: list[Any]
        needs = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        pairs = list(zip(early, needs, strict=True))
        alone = ctx.chunks.alone
        if alone and torch.is_grad_enabled():
            raise RuntimeError(
                "linear_cross_entropy: with these options gradients alone are kept, which have no "
                "derivatives. For a second derivative (create_graph=True) leave options out."
            )
        if alone or (first_order(grad_y, x) and all(grad.numel() or not need for grad, need in pairs)):
            grads = [grad * grad_y if need else None for grad, need in pairs]
            if grads[0] is not None:
                # chosen, not multiplied: an ignored sample's gradient is 0 even of an infinite one
                grads[0] = torch.where(early[0] == 0, 0, grads[0])
        else:
            samples = Samples.like(2, widen(x).dtype, t, v, ctx.ignore_index)
            u = samples.upstream(widen(grad_y), ctx.reduction)
            if first_order(grad_y, x):
                grads = _by_chunks(x, w, b, samples, u, ctx.chunks, needs)[1]
            else:
                grad_z = _slopes(F.linear(x, w, b), samples, u).to(x.dtype)
                grads = [
                    times(grad_z, w, ctx.by_columns) if needs[0] else None,
                    grad_z.mT @ x if needs[1] else None,
                    grad_z.sum(0) if needs[2] else None,
                ]
        return grads[0], None, *grads[1:], None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Any, ...]:
        x, t, w, b, v, *_ = ctx.saved_tensors
        tangent_x, _, tangent_w, tangent_b, tangent_v, *_ = tangents
        moved = torch.zeros_like(x[:, :1]) if tangent_b is None else tangent_b
        moved = moved if tangent_x is None else moved + tangent_x @ w.mT
        moved = moved if tangent_w is None else moved + x @ tangent_w.mT
        samples = Samples.like(2, widen(x).dtype, t, v, ctx.ignore_index)
        z = F.linear(x, w, b)
        slopes = _slopes(z, samples, samples.valid.to(samples.weights.dtype))

        def q() -> Tensor:
            return torch.log_softmax(widen(z), 1)

        tangent = samples.push((slopes * moved).sum(1), q, v, tangent_v, ctx.reduction)
        return tangent.to(x.dtype), None, None, None


def _bytes(*tensors: Tensor | None) -> int:
    return sum(y.nbytes for y in tensors if y is not None)


def _slopes(z: Tensor, samples: Samples, u: Tensor) -> Tensor:
    """dL/dz, in differentiable operators."""
    column = samples.weights * u
    return samples.scatter(torch.softmax(widen(z), 1) * column.unsqueeze(1), -column)


def _by_chunks(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    samples: Samples,
    u: Tensor | None,
    chunks: Chunks,
    needs: list[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """The losses, and where u is given the gradients of x, w and b, a few samples at a time."""
    losses, start = [], 0
    grad_x = torch.empty_like(x) if needs[0] else None
    # in half precision the sums over chunks would lose what is small
    grad_w = torch.zeros_like(w if chunks.compact else widen(w)) if needs[1] else None
    grad_b = widen(w).new_zeros(w.shape[0]) if needs[2] else None
    u = torch.zeros_like(samples.weights) if u is None else u
    parts = x, samples.target, samples.weights, samples.valid, u
    split = zip(*(part.split(max(chunks.rows, 1)) for part in parts), strict=True)
    for x_rows, target, weights, valid, u_rows in split:
        z = widen(F.linear(x_rows, w, b))
        # large logits have no digits left for their sum of exponentials
        z.sub_(z.detach().amax(1, keepdim=True))
        height = torch.logsumexp(z, 1)
        losses.append(weights * torch.where(valid, height - Samples(1, target, weights, valid).gather(z), 0))
        if not any(needs):
            continue
        column = (weights * u_rows).unsqueeze(1)
        # the gradient takes the place of the logits
        z.sub_(height.unsqueeze(1)).exp_().mul_(column).scatter_add_(1, target.unsqueeze(1), -column)
        if grad_x is not None:
            grad_x[start : start + len(x_rows)] = z.to(x.dtype) @ w
            start += len(x_rows)
        if grad_w is not None:
            grad_w.addmm_(z.mT.to(grad_w.dtype), x_rows.to(grad_w.dtype))
        if grad_b is not None:
            grad_b.add_(z.sum(0))
    grads = (grad_x, grad_w, grad_b)
    return torch.cat(losses), [None if grad is None else grad.to(x.dtype) for grad in grads]
