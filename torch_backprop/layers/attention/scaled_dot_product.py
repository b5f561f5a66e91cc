r"""Scaled dot-product attention. Vaswani et al. (2017), arXiv:1706.03762, eq. 1.

For the rows i of queries and j of keys and values of one head, with g = dL/dO and a factor m_ij that is 1, or
under dropout with probability p is 0, else 1 / (1 - p):

    forward   S = c Q K^T + M     P_ij = exp(S_ij) / sum_k exp(S_ik)     W = m P     O = W V
    backward  dL/dV = W^T g       dP = m (g V^T)      D_i = sum_j P_ij dP_ij
              dS = P (dP - D) = dL/dM                 dL/dQ = c dS K     dL/dK = c dS^T Q

since d P_ij / d S_ik = P_ij (delta_jk - P_ik), as of any softmax. Of the size of S only the bits of m are
saved: P is computed again from Q and K; where derivatives end with the first, by blockwise.py a tile at a
time, else by formula.py at once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from torch_backprop.layers.attention import blockwise, formula
from torch_backprop.layers.attention.formula import Options, Saved, is_grouped
from torch_backprop.rule import LOWER, Rule, first_order, is_batched, is_plain, owned, private, uncast


class AttentionRule(Rule):
    """Saves q, k, the mask, the bits of m, and v unless it alone needs a gradient.

    Where W is returned and is P, it is saved, and of the others what the needed gradients multiply; where it
    is not P, for the gradient of v alone.
    Returns ``(o, w, kept)``: the weights W if asked for, else nothing; and what dropout keeps.
    """

    autocast = {"cpu": LOWER, "cuda": LOWER}
    sees_unused = True

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool, c: float, weights: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        tensors = [x for x in (q, k, v, mask) if x is not None]
        # the fused kernel cannot be batched
        fused = p == 0 and not any(map(is_batched, tensors))
        if not weights and (fused or not _fits(q, k, v, mask, causal)):
            # what does not fit is refused, in torch's words
            o = F.scaled_dot_product_attention(q, k, v, mask, p, causal, scale=c, enable_gqa=is_grouped(q, k))
            return owned(o), q.new_empty(0), q.new_empty(0)
        options = Options(p, causal, c, weights)
        if not (all(map(is_plain, tensors)) and not weights and _has_tiles(q, k, v)):
            return formula.attend(q, k, v, mask, options)
        with uncast(q.device.type):
            return blockwise.attend(q, k, v, mask, options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        q, k, v, mask, *ctx.options = inputs
        _, w, kept = output
        ctx.mark_non_differentiable(kept)
        ctx.has_tiles = _has_tiles(q, k, v)
        ctx.shapes = (q.shape, k.shape, v.shape, () if mask is None else mask.shape)
        needs_q, needs_k, _, needs_mask = ctx.needs_input_grad[:4]
        saved_v = v if needs_q or needs_k or needs_mask else None
        if ctx.options[-1] and saved_v is None:
            # all that the gradient of v multiplies
            ctx.save_for_backward(None, None, None, None, None, w)
            ctx.save_for_forward(q, k, mask, kept, v, w if Options(*ctx.options).is_p else None)
        elif Options(*ctx.options).is_p:
            ctx.save_for_backward(q if needs_k else None, k if needs_q else None, None, kept, saved_v, w)
            ctx.save_for_forward(q, k, mask, kept, v, w)
        else:
            ctx.save_for_backward(q, k, mask, kept, saved_v, None)
            ctx.save_for_forward(q, k, mask, kept, v, None)

    @staticmethod
    def backward(ctx: Any, grad_o: Tensor | None, grad_w: Tensor | None, _: None) -> tuple[Any, ...]:
        saved, options = Saved(*ctx.saved_tensors, shapes=ctx.shapes), Options(*ctx.options)
        above = grad_w if options.weights else None
        tensors = [x for x in (*saved[:-1], grad_o, above) if x is not None]
        needs = ctx.needs_input_grad[:4]
        if grad_o is None or not (first_order(*tensors) and not options.weights and ctx.has_tiles):
            return *formula.pull(saved, needs, options, grad_o, above), None, None, None, None
        with uncast(grad_o.device.type):
            return *blockwise.pull(saved, needs, options, grad_o, above), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        saved, options = Saved(*ctx.saved_tensors, shapes=ctx.shapes), Options(*ctx.options)
        return *formula.push(saved, options, tangents[:4]), None


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(c Q K^T + M) V; as :func:`torch.nn.functional.scaled_dot_product_attention`.

    Args:
        query: ``(*, H, L, E)``.
        key: ``(*, H, S, E)``.
        value: ``(*, H, S, Ev)``.
        attn_mask: broadcastable to ``(*, H, L, S)``: true where a query may see a key, or what is added to
            the score.
        dropout_p: the probability with which a weight is zeroed, in training or not.
        is_causal: whether query i sees keys 0 to i alone.
        scale: c; 1 / sqrt(E) if None.
        enable_gqa: whether keys and values may have fewer heads, each for a group of the query's.

    Returns:
        ``(*, H, L, Ev)``; zero where a query sees no key.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, or a probability that is none, in torch's words.

    >>> query, key = torch.zeros(1, 1), torch.zeros(2, 1)
    >>> scaled_dot_product_attention(query, key, torch.tensor([[1.0], [3.0]]))
    tensor([[2.]])
    """
    grouped = is_grouped(query, key) or is_grouped(query, value)
    if (
        query.is_nested
        or not 0 <= dropout_p <= 1
        or not (query.dim() and query.shape[-1])
        or (grouped and not (enable_gqa and _groups_fit(query, key, value)))
    ):
        # torch refuses it, in its own words
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    given = (query, key, value, attn_mask)
    plain = all(x is None or is_plain(x) for x in given)
    if plain and _by_operators(*given, dropout_p, is_causal, enable_gqa):
        # there torch keeps products of these, not what a caller can write into
        query, key = private(query, *given), private(key, *given)
        attn_mask = None if attn_mask is None else private(attn_mask, *given)
    c = query.shape[-1] ** -0.5 if scale is None else scale
    # one for all queries is a matrix of one row to the rule
    mask = None if attn_mask is None else torch.atleast_2d(attn_mask)
    return AttentionRule.call(query, key, value, mask, dropout_p, is_causal, c, False)[0]


def _by_operators(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool, grouped: bool
) -> bool:
    """Whether torch itself has no kernel for all of it in one."""
    chosen = torch._fused_sdp_choice(  # pyright: ignore[reportPrivateImportUsage]
        q, k, v, mask, p, causal, enable_gqa=grouped
    )
    return chosen == SDPBackend.MATH.value


def _has_tiles(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether there are scores; values of more heads than those have share what dropout keeps."""
    sizes = q.numel(), k.numel(), v.numel()
    return all(sizes) and blockwise.batch_of(q, k) == blockwise.batch_of(q, k, v)


def _groups_fit(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return k.shape[-3] == v.shape[-3] and q.shape[-3] % k.shape[-3] == 0


def _fits(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether torch would take these arguments."""
    if any(x.dim() < 2 or x.dtype != q.dtype for x in (q, k, v)) or not q.is_floating_point():
        return False
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        return False
    try:
        blockwise.batch_of(q, k, v)
        shape = (*blockwise.batch_of(q, k), q.shape[-2], k.shape[-2])
        return mask is None or (
            not causal
            and mask.dtype in (torch.bool, q.dtype)
            and torch.broadcast_shapes(mask.shape, shape) == shape
        )
    except RuntimeError:
        return False
