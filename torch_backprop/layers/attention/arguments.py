"""The arguments of attention of several heads; its derivation is in ``scaled_dot_product``."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Call(NamedTuple):
    """The arguments of ``multi_head_attention_forward``, which says what they are."""

    query: Tensor
    key: Tensor
    value: Tensor
    embed_dim_to_check: int
    num_heads: int
    in_proj_weight: Tensor | None
    in_proj_bias: Tensor | None
    bias_k: Tensor | None
    bias_v: Tensor | None
    add_zero_attn: bool
    dropout_p: float
    out_proj_weight: Tensor
    out_proj_bias: Tensor | None
    training: bool
    key_padding_mask: Tensor | None
    need_weights: bool
    attn_mask: Tensor | None
    use_separate_proj_weight: bool
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None
    static_k: Tensor | None
    static_v: Tensor | None
    average_attn_weights: bool
    is_causal: bool


def fits(call: Call) -> bool:
    """Whether torch would take these arguments."""
    q, k, v, heads = call.query, call.key, call.value, call.num_heads
    if not (2 <= q.dim() <= 3 and q.dim() == k.dim() == v.dim() and q.shape[1:-1] == k.shape[1:-1]):
        return False
    length, lead, width, keys = q.shape[0], q.shape[1:-1], q.shape[-1], k.shape[0]
    count = math.prod(lead)
    if width != call.embed_dim_to_check or width % heads or k.shape[:-1] != v.shape[:-1]:
        return False
    static = (count * heads, keys, width // heads)
    paired = (call.bias_k is None) == (call.bias_v is None)
    return (
        _weights_fit(call)
        and 0 <= call.dropout_p <= 1
        and _has_shape(call.attn_mask, (length, keys), (count * heads, length, keys))
        and _has_shape(call.key_padding_mask, (*lead, keys))
        and _has_shape(call.static_k, static)
        and _has_shape(call.static_v, static)
        and (paired and (call.bias_k is None or call.static_k is call.static_v is None))
        and not (call.is_causal and call.attn_mask is None)
    )


def _weights_fit(call: Call) -> bool:
    if not call.use_separate_proj_weight:
        return call.in_proj_weight is not None and call.key.shape == call.value.shape
    shapes = ((call.query.shape[-1], x.shape[-1]) for x in (call.query, call.key, call.value))
    weights = call.q_proj_weight, call.k_proj_weight, call.v_proj_weight
    return all(w is not None and w.shape == shape for w, shape in zip(weights, shapes, strict=True))


def _has_shape(tensor: Tensor | None, *shapes: tuple[int, ...]) -> bool:
    return tensor is None or tuple(tensor.shape) in shapes
