"""Attention of several heads, with projections. Vaswani et al. (2017), arXiv:1706.03762, section 3.2.2.

    forward   head_h = attention(Q W_Qh, K W_Kh, V W_Vh)     y = concat(head_1, ..., head_H) W_O

A composition of linear maps and attention, so that its backward pass is theirs, one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.attention.scaled_dot_product import AttentionRule
from torch_backprop.layers.linear import linear
from torch_backprop.rule import is_plain
from torch_backprop.spec import Draw, LayerSpec, case

Projections = tuple[Tensor | None, Tensor | None, Tensor | None]


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of several heads; as :func:`torch.nn.functional.multi_head_attention_forward`.

    Args:
        query: ``(L, N, E)`` or ``(L, E)``.
        key: ``(S, N, Ek)`` or ``(S, Ek)``.
        value: ``(S, N, Ev)`` or ``(S, Ev)``.
        embed_dim_to_check: E.
        num_heads: H, which divides E.
        in_proj_weight: ``(3 E, E)``, those of queries, keys and values one below the other.
        in_proj_bias: ``(3 E)``.
        bias_k: ``(1, 1, E)``, one more key after the others.
        bias_v: ``(1, 1, E)``, its value.
        add_zero_attn: whether there is one more key, and value, of zeros.
        dropout_p: the probability with which a weight is zeroed in training.
        out_proj_weight: ``(E, E)``.
        out_proj_bias: ``(E)``.
        training: whether to drop out.
        key_padding_mask: ``(N, S)`` or ``(S)``: true where a key is not to be seen, or what is added.
        need_weights: whether the weights are returned.
        attn_mask: ``(L, S)`` or ``(N H, L, S)``, of the same meaning.
        use_separate_proj_weight: whether the weights are the three that follow, not ``in_proj_weight``.
        q_proj_weight: ``(E, E)``.
        k_proj_weight: ``(E, Ek)``.
        v_proj_weight: ``(E, Ev)``.
        static_k: ``(N H, S, E / H)``, instead of the projected keys.
        static_v: ``(N H, S, E / H)``, instead of the projected values.
        average_attn_weights: whether the weights are averaged over the heads.
        is_causal: a hint that ``attn_mask`` is causal.

    Returns:
        ``(L, N, E)`` or ``(L, E)``, and the weights ``(N, L, S)``, ``(N, H, L, S)`` or without N, or None.

    Raises:
        AssertionError: shapes that do not fit, in torch's words.
        RuntimeError: the same.
        ValueError: a probability that is none, in torch's words.
    """
    arguments = locals()
    ...
