"""Embedding: rows of a table. Bengio, Ducharme, Vincent & Jauvin (2003), JMLR 3, 1137-1155.

With samples n, the row k_n of each, and features d:

    forward   y_nd = w_(k_n) d
    backward  dL/dw_kd = sum_(n: k_n = k) g_nd / f_k

since row k stands in every y_n with k_n = k, and adds up what it gets from each (Goodfellow, Bengio &
Courville (2016), "Deep Learning", eq. 6.45). f_k is 1, or with ``scale_grad_by_freq`` how many n have
k_n = k. The row of ``padding_idx`` has no gradient. The map is linear in w, so its forward-mode rule is
itself, and the second derivative by g is the lookup.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.rule import Rule, first_order, owned, save, widen
from torch_backprop.spec import Draw, LayerSpec, case


class EmbeddingRule(Rule):
    """Saves k; of w only the number of rows matters."""

    @staticmethod
    def forward(w: Tensor, k: Tensor, padding: int, scaled: bool, sparse: bool) -> Tensor:
        return owned(torch.embedding(w, k, padding, scaled, sparse))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        w, k, ctx.padding, ctx.scaled, ctx.sparse = inputs
        ctx.rows = w.shape[0]
        save(ctx, k)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (k,) = ctx.saved_tensors
        gradient = sparse_rows if ctx.sparse else dense_rows
        g = grad_y.reshape(k.numel(), grad_y.shape[-1])
        return gradient(g, k.reshape(-1), ctx.rows, ctx.padding, ctx.scaled), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_w: Tensor, *_: None) -> Tensor:
        (k,) = ctx.saved_tensors
        return torch.embedding(tangent_w, k)


def dense_rows(g: Tensor, k: Tensor, rows: int, padding: int, scaled: bool) -> Tensor:
    """Sums ``g`` ``(N, D)`` into the rows ``k`` ``(N)`` of zeros ``(rows, D)``."""
    k = k.long()
    values = widen(g)
    if scaled:
        values = values / frequencies(k, rows)[k].unsqueeze(-1)
    zeros = values.new_zeros(rows, g.shape[-1])
    # in the order of the samples on a CPU, and sorted on CUDA, where index_add is not deterministic
    if k.is_cuda:
        grad_w = zeros.index_put((k,), values, accumulate=True)
    else:
        grad_w = zeros.index_add_(0, k, values) if first_order(g, k) else zeros.index_add(0, k, values)
    # afterwards, so that an undefined gradient of the padding leaves no trace
    if padding >= 0:
        grad_w = grad_w.index_fill(0, k.new_full((1,), padding), 0)
    return grad_w.to(g.dtype)


def sparse_rows(g: Tensor, k: Tensor, rows: int, padding: int, scaled: bool) -> Tensor:
    """The same as a sparse tensor, not coalesced, without the padding.

    Raises:
        RuntimeError: ``scaled``, in torch's words.
    """
    if scaled:
        raise RuntimeError("embedding_backward: scale_grad_by_freq not supported with sparse gradients")
    if padding >= 0:
        kept = k != padding
        k, g = k[kept], g[kept]
    return torch.sparse_coo_tensor(k.unsqueeze(0), g, (rows, g.shape[-1]), check_invariants=False)


def frequencies(k: Tensor, rows: int) -> Tensor:
    """How many elements of ``k`` ``(N)`` name each of ``rows`` rows; ``bincount`` cannot be batched."""
    return k.new_zeros(rows).index_add(0, k, torch.ones_like(k))


def renormalize(input: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    """Scales the rows of ``weight`` that ``input`` names to a norm of ``max_norm`` at most, in place."""
    F._no_grad_embedding_renorm_(weight, input, max_norm, norm_type)  # pyright: ignore[reportAttributeAccessIssue]


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Looks up rows of ``weight``; as :func:`torch.nn.functional.embedding`.

    Args:
        input: row numbers ``(*)``, int32 or int64.
        weight: ``(V, D)``.
        padding_idx: a row that gets no gradient; negative counts from the end.
        max_norm: rows of a larger norm are first scaled to it, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide a row's gradient by the number of its lookups.
        sparse: make the gradient of ``weight`` a sparse tensor.

    Returns:
        ``(*, D)``.

    Raises:
        IndexError: a row that is not there, in torch's words.
        RuntimeError: a weight that is no table, in torch's words.
        AssertionError: ``padding_idx`` is no row, in torch's words.

    >>> embedding(torch.tensor([2, 0]), torch.eye(3))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if weight.dim() != 2:
        return F.embedding(input, weight)  # raises
    rows = weight.shape[0]
    if padding_idx is not None and not (-rows <= padding_idx < rows or padding_idx == 0):
        raise AssertionError("Padding_idx must be within num_embeddings")
    padding = -1 if padding_idx is None else padding_idx + rows * (padding_idx < 0)
    if max_norm is not None:
        input = input.contiguous()
        renormalize(input, weight, max_norm, norm_type)
    return EmbeddingRule.call(weight, input, padding, scale_grad_by_freq, sparse)


class Embedding(torch.nn.Embedding):
    """Drop-in for :class:`torch.nn.Embedding`, whose constructors, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*, embedding_dim)``."""
        return embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )


SPECS = (
    LayerSpec(
        Embedding,
        torch.nn.Embedding,
        (
            case(Draw((2, 3), "classes", 4), num_embeddings=4, embedding_dim=3),
            case(Draw((5,), "classes", 3), num_embeddings=3, embedding_dim=2, padding_idx=-2),
            case(Draw((4, 2), "classes", 3), num_embeddings=3, embedding_dim=2, scale_grad_by_freq=True),
        ),
        large=case(Draw((4096,), "classes", 10000), num_embeddings=10000, embedding_dim=512),
    ),
)
