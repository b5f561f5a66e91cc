"""Attention of several heads, with projections. Vaswani et al. (2017), arXiv:1706.03762, section 3.2.2.

    forward   head_h = attention(Q W_Qh, K W_Kh, V W_Vh)     y = concat(head_1, ..., head_H) W_O

Its derivation is that of ``linear`` and ``scaled_dot_product``, of which it is composed: one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.attention.arguments import Call, fits
from torch_backprop.layers.attention.scaled_dot_product import AttentionRule
from torch_backprop.layers.linear import linear
from torch_backprop.rule import by_autograd, private, tracked, wanted
from torch_backprop.spec import LayerSpec, case


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
        AssertionError, RuntimeError, ValueError: what does not fit, in torch's words.
    """
    call = Call(
        query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
        add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training, key_padding_mask, need_weights,
        attn_mask, use_separate_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, static_k, static_v,
        average_attn_weights, is_causal,
    )  # fmt: skip
    return _attend(call) if fits(call) else F.multi_head_attention_forward(*call)


class MultiheadAttention(torch.nn.MultiheadAttention):
    """Drop-in for :class:`torch.nn.MultiheadAttention`."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As :func:`multi_head_attention_forward`; with ``batch_first`` N comes first."""
        tensors = (query, key, value, key_padding_mask, attn_mask, *self.parameters())
        if query.is_nested or not (self.training or any(tracked(x) for x in tensors if x is not None)):
            # there is nothing to derive, and torch has a kernel of its own for that
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        self._asked_for(query, query is key is value, (key_padding_mask, attn_mask))
        other = None if attn_mask is None else attn_mask.dtype
        key_padding_mask = _added(key_padding_mask, "key_padding_mask", other, query.dtype)
        attn_mask = _added(attn_mask, "attn_mask", None, query.dtype)
        turned = self.batch_first and query.dim() == 3
        if turned:
            # the same tensor stays the same: its projections are one product
            q = _turned(query, self.parameters())
            k = q if key is query else _turned(key, self.parameters())
            query, key, value = q, k, k if value is key else _turned(value, self.parameters())
        y, w = multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias,
            self.bias_k, self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight,
            self.out_proj.bias, self.training, key_padding_mask, need_weights, attn_mask,
            not self._qkv_same_embed_dim, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return y.transpose(0, 1) if turned else y, w

    def _asked_for(
        self, query: Tensor, own: bool, masks: tuple[Tensor | None, ...]
    ) -> tuple[Tensor | None, ...]:
        """The weights that torch asks for to see whether its kernel will do, in the same order.

        A parametrization may count how often that is: the one of ``spectral_norm`` iterates each time.
        """
        kernel = (
            (own and query.dim() == 3 and torch.backends.mha.get_fastpath_enabled())
            and (self.in_proj_bias is None or self.in_proj_bias.dtype == query.dtype)
            and (self.in_proj_weight is not None and self.in_proj_weight.dtype == query.dtype)
            and not (self.training or self.num_heads % 2 or not self.batch_first)
            and (self.bias_k is None and self.bias_v is None and not self.add_zero_attn)
            and not any(mask is not None and mask.is_floating_point() for mask in masks)
            and not torch.is_autocast_enabled()
        )
        out = self.out_proj
        return (self.in_proj_weight, self.in_proj_bias, out.weight, out.bias) if kernel else ()


def _turned(x: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    # what torch's projections keep of a transposed tensor is a copy
    return private(x, *parameters).transpose(0, 1)


def _attend(call: Call) -> tuple[Tensor, Tensor | None]:
    mask, heads = _mask(call), call.num_heads
    causal = call.is_causal and mask is None
    q, k, v = (x.unsqueeze(1) if x.dim() == 2 else x for x in _projected(call))
    if call.bias_k is not None and call.bias_v is not None:
        k = torch.cat((k, call.bias_k.expand(1, *k.shape[1:])))
        v = torch.cat((v, call.bias_v.expand(1, *v.shape[1:])))
    q, k, v = (x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for x in (q, k, v))
    k = k if call.static_k is None else call.static_k.unflatten(0, (-1, heads))
    v = v if call.static_v is None else call.static_v.unflatten(0, (-1, heads))
    if call.add_zero_attn:
        k, v = (torch.cat((x, x.new_zeros(*x.shape[:2], 1, x.shape[3])), 2) for x in (k, v))
    p = call.dropout_p if call.training else 0.0
    o, w, _ = AttentionRule.call(q, k, v, mask, p, causal, q.shape[-1] ** -0.5, call.need_weights)
    o = o.permute(2, 0, 1, 3).reshape(call.query.shape)
    y = linear(o, call.out_proj_weight, call.out_proj_bias)
    if not call.need_weights:
        return y, None
    if by_autograd(q, k, v, mask) and not any(map(wanted, (q, k, mask))):
        w = w.detach()  # they do not depend on the values
    w = w.mean(1) if call.average_attn_weights else w
    return y, w.squeeze(0) if y.dim() == 2 else w


def _projected(call: Call) -> tuple[Tensor, ...]:
    """Q, K and V; of one tensor by one product."""
    bias, width = call.in_proj_bias, call.query.shape[-1]
    weights: Any = call.q_proj_weight, call.k_proj_weight, call.v_proj_weight
    if call.in_proj_weight is not None and not call.use_separate_proj_weight:
        if call.query is call.key is call.value:
            return linear(call.query, call.in_proj_weight, bias).chunk(3, -1)
        if call.key is call.value:
            w_q, w_kv = call.in_proj_weight.split([width, 2 * width])
            b_q, b_kv = (None, None) if bias is None else bias.split([width, 2 * width])
            return linear(call.query, w_q, b_q), *linear(call.key, w_kv, b_kv).chunk(2, -1)
        weights = call.in_proj_weight.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return tuple(map(linear, (call.query, call.key, call.value), weights, biases))


def _mask(call: Call) -> Tensor | None:
    """What is added to the scores, ``(N or 1, H or 1, L or 1, S)``, or None if nothing is but by the hint."""
    mask, padding, dtype = call.attn_mask, call.key_padding_mask, call.query.dtype
    other = None if mask is None else mask.dtype
    padding = _added(padding, "key_padding_mask", other, dtype)
    # then the mask is known without its numbers, and tiles beyond it are left out
    if call.is_causal and padding is None and not call.need_weights:
        return None
    mask = _added(mask, "attn_mask", None, dtype)
    if mask is not None:
        mask = mask[None, None] if mask.dim() == 2 else mask.unflatten(0, (-1, call.num_heads))
    if padding is not None:
        padding = padding.view(-1, 1, 1, padding.shape[-1])
    masks = [x for x in (mask, padding) if x is not None]
    added = (call.bias_k is not None) + call.add_zero_attn
    return F.pad(sum(masks[1:], masks[0]), (0, added)) if masks else None


def _added(mask: Tensor | None, name: str, other: torch.dtype | None, dtype: torch.dtype) -> Tensor | None:
    """A mask as what is added to the scores; torch checks it, and warns if the other is of another kind."""
    return F._canonical_mask(mask, name, other, "attn_mask", dtype, check_other=other is not None)


def itself(layer: Any, x: Tensor) -> Any:
    """Its output for one tensor as queries, keys and values, without the weights."""
    return layer(x, x, x, need_weights=False)[0]


def causally(layer: Any, query: Tensor, key: Tensor) -> Any:
    """The same with a causal mask, and the hint that it is one."""
    future = torch.ones(query.shape[0], key.shape[0], dtype=torch.bool, device=query.device).triu(1)
    return layer(query, key, key, need_weights=False, attn_mask=future, is_causal=True)[0]


def masked(layer: Any, query: Tensor, key: Tensor, value: Tensor, padding: Tensor, mask: Tensor) -> Any:
    """Its output with both masks, and the weights of every head."""
    return layer(query, key, value, padding, attn_mask=mask, average_attn_weights=False)


QUADRATIC = frozenset({"quadratic"})
TWO: dict[str, Any] = {"embed_dim": 4, "num_heads": 2}
FIRST: dict[str, Any] = TWO | {"batch_first": True, "add_bias_kv": True}
SPECS = (
    LayerSpec(
        MultiheadAttention,
        torch.nn.MultiheadAttention,
        (
            case((4, 2, 4), call=itself, **TWO),
            case((3, 2, 4), (3, 2, 4), call=causally, **TWO),
            case((5, 4), (5, 3), (5, 2), kdim=3, vdim=2, bias=False, add_zero_attn=True, **TWO),
            case((2, 3, 4), (2, 3, 4), (2, 3, 4), (2, 3), (4, 3, 3), call=masked, **FIRST),
            case((5, 4), (5, 4), (5, 4), dropout=0.4, **TWO),
            case((6, 2, 4), call=itself, dropout=0.4, **TWO),
        ),
        QUADRATIC,
        large=case((128, 32, 256), call=itself, embed_dim=256, num_heads=8, dropout=0.1),
    ),
)
