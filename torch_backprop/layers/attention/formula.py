"""Attention at once: the derivation in ``scaled_dot_product`` as it stands, in differentiable operators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torch_backprop.layers.bits import pack, unpack
from torch_backprop.layers.loss.reduction import sum_to
from torch_backprop.rule import is_plain, widen


@dataclass(frozen=True)
class Options:
    """What a call is given beside its tensors.

    Attributes:
        p: the probability with which dropout zeroes a weight.
        causal: whether row i sees columns 0 to i alone.
        c: the factor of Q K^T.
        weights: whether W is wanted; then rows that see nothing are undefined, as in torch, and not zero.
    """

    p: float
    causal: bool
    c: float
    weights: bool

    @property
    def keep(self) -> float:
        """1 / m where m is not zero; infinite if it is zero everywhere."""
        return 1 - self.p or math.inf

    @property
    def is_p(self) -> bool:
        """Whether W is wanted, and is P."""
        return self.weights and not self.p


class Saved(NamedTuple):
    """What the backward pass is given: see :class:`AttentionRule`, and the shapes of q, k, v and the mask."""

    q: Tensor | None
    k: Tensor | None
    mask: Tensor | None
    kept: Tensor | None
    v: Tensor | None
    w: Tensor | None
    shapes: tuple[torch.Size, ...]


Grads = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Of q, k, v and the mask."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """O, W or nothing, and what dropout keeps, as bits where they can be seen."""
    w, kept = probabilities(q, k, mask, options), q.new_empty(0)
    if options.p:
        # of p = 1 no random numbers are drawn, as in torch
        noise = w.new_zeros(w.shape) if options.p == 1 else w.new_empty(w.shape).bernoulli_(1 - options.p)
        kept = noise != 0
        # what is kept is scaled up, so that its mean is that without dropout
        w = w * (noise / options.keep)
    o = (w @ repeated(v, q)).to(v.dtype)
    kept = pack(kept) if is_plain(kept) and kept.dtype == torch.bool else kept
    return o, w.to(v.dtype) if options.weights else q.new_empty(0), kept


def pull(
    saved: Saved, needs: tuple[bool, ...], options: Options, grad_o: Tensor | None, grad_w: Tensor | None
) -> Grads:
    """The gradients that are needed, from those of O and W; only that of v if v is not saved.

    Of O and W, one may not have been used; O alone depends on v.
    """
    q_shape, k_shape, v_shape, mask_shape = saved.shapes
    needs_q, needs_k, needs_v, needs_mask = needs
    given = grad_w if grad_o is None else grad_o
    assert given is not None
    dtype = given.dtype
    if not given.numel():
        # torch's fused kernel returns before it meets a mask, which need not even fit
        wanted = zip(saved.shapes, (*needs[:3], needs_mask and options.weights), strict=True)
        q, k, v, mask = (given.new_zeros(shape) if need else None for shape, need in wanted)
        return q, k, v, mask
    p = _again(saved, options)
    m = factor(saved.kept, p, options)
    grad_v = _onto((m * p).mT @ widen(grad_o), v_shape, dtype) if needs_v and grad_o is not None else None
    # v is saved for the gradients of q, k and the mask alone
    if saved.v is None:
        return None, None, grad_v, None
    parts = [] if grad_w is None else [widen(grad_w)]
    if grad_o is not None:
        parts.append(widen(grad_o) @ repeated(saved.v, grad_o).mT)
    grad_p = m * sum(parts[1:], parts[0])
    # the Jacobian of a softmax is diag(p) - p p^T: no matrix of it is made
    grad_s = p * (grad_p - (p * grad_p).sum(-1, keepdim=True))
    grad_q = grad_k = None
    if needs_q and saved.k is not None:
        grad_q = _onto(options.c * (grad_s @ repeated(saved.k, grad_s)), q_shape, dtype)
    if needs_k and saved.q is not None:
        grad_k = _onto(options.c * (widen(saved.q).mT @ grad_s).mT, k_shape, dtype)
    return grad_q, grad_k, grad_v, _onto(grad_s, mask_shape, dtype) if needs_mask else None


def push(saved: Saved, options: Options, tangents: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor | None]:
    """The tangents of O and W, from those of q, k, v and the mask."""
    q, k, v = saved.q, saved.k, saved.v
    assert q is not None
    assert k is not None
    assert v is not None
    tangent_q, tangent_k, tangent_v, tangent_mask = tangents
    p = _again(saved, options)
    m = factor(saved.kept, p, options)
    tangent_s = torch.zeros_like(p) if tangent_mask is None else widen(tangent_mask)
    if tangent_q is not None:
        tangent_s = tangent_s + options.c * (widen(tangent_q) @ repeated(k, q).mT)
    if tangent_k is not None:
        tangent_s = tangent_s + options.c * (widen(q) @ repeated(tangent_k, q).mT)
    tangent_w = m * (p * (tangent_s - (p * tangent_s).sum(-1, keepdim=True)))
    tangent_o = tangent_w @ repeated(v, q)
    if tangent_v is not None:
        tangent_o = tangent_o + (m * p) @ repeated(tangent_v, q)
    if tangent_q is tangent_k is tangent_mask is None:
        return tangent_o.to(q.dtype), None
    tangent_w = tangent_w if options.weights else q.new_zeros(0)
    return tangent_o.to(q.dtype), tangent_w.to(q.dtype)


def probabilities(q: Tensor, k: Tensor, mask: Tensor | None, options: Options) -> Tensor:
    """P, from Q and K."""
    s = (options.c * widen(q)) @ repeated(k, q).mT
    if options.causal:
        future = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu(1)
        s = s.masked_fill(future, -math.inf)
    if mask is not None:
        s = s.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else s + widen(mask)
    if options.weights:
        return s.softmax(-1)
    # a softmax of nothing is undefined; a row that sees nothing is to be zero
    blind = (s == -math.inf).all(-1, keepdim=True)
    return s.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)


def _again(saved: Saved, options: Options) -> Tensor:
    """P, from what is saved."""
    if saved.w is not None:
        return widen(saved.w)
    assert saved.q is not None
    assert saved.k is not None
    return probabilities(saved.q, saved.k, saved.mask, options)


def factor(kept: Tensor | None, p: Tensor, options: Options) -> Tensor | float:
    """m, from what dropout keeps; 1 without that, where W stands for P."""
    if kept is None or not options.p or not p.numel():
        return 1.0
    kept = unpack(kept, p.shape) if kept.dtype == torch.uint8 else kept
    return kept.to(p.dtype) / options.keep


def is_grouped(q: Tensor, k: Tensor) -> bool:
    """Whether a head of k is for several of q."""
    return q.dim() > 2 and k.dim() > 2 and q.shape[-3] != 1 and k.shape[-3] not in (1, q.shape[-3])


def repeated(x: Tensor, q: Tensor) -> Tensor:
    """k or v with a matrix for every head of q."""
    return widen(x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) if is_grouped(q, x) else x)


def _onto(grad: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Sums a gradient over the heads of each group and over the dimensions that were broadcast."""
    if len(shape) > 2 and shape[-3] not in (1, grad.shape[-3]):
        # the heads of one group are neighbours
        heads, *matrix = grad.shape[-3:]
        grad = grad.reshape(*grad.shape[:-3], shape[-3], heads // shape[-3], *matrix).sum(-3)
    return sum_to(grad, shape).to(dtype)
