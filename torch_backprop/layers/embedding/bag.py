"""EmbeddingBag: sums, means and maxima of rows of a table. Joulin et al. (2016), arXiv:1607.01759, section 2.

With samples n, the row k_n and the bag b_n of each, features d, and a coefficient c_n: its weight s_n or 1,
over the number of samples in its bag for a mean, and 0 for padding:

    sum, mean  forward   y_bd = sum_(n: b_n = b) c_n w_(k_n) d
               backward  dL/dw_kd = sum_(n: k_n = k) c_n g_(b_n) d / f_k
                         dL/ds_n = sum_d g_(b_n) d w_(k_n) d
    max        forward   y_bd = w_md, where m_bd is the row of the largest
               backward  dL/dw_kd = sum_(b: m_bd = k) g_bd

f_k is 1, or with ``scale_grad_by_freq`` how many n have k_n = k. An empty bag is 0 and has no gradient. The
one non-obvious step: dL/dw is bags again, of the rows of g, with a bag for each row of the table, since
a row adds up what it gets from all places where it stands (Goodfellow, Bengio & Courville (2016), "Deep
Learning", eq. 6.45).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from torch_backprop.layers.embedding.table import dense_rows, frequencies, renormalize, sparse_rows
from torch_backprop.rule import Rule, first_order, is_batched, widen
from torch_backprop.spec import Draw, LayerSpec, case

MODES = {"sum": 0, "mean": 1, "max": 2}


class Bags(NamedTuple):
    """The bag b and the coefficient c of each sample, its own weight apart; and the size of each bag."""

    bag: Tensor
    coefficient: Tensor
    size: Tensor

    @classmethod
    def of(cls, k: Tensor, offsets: Tensor, padding: int, mode: str, last: bool, like: Tensor) -> Bags:
        """The bags of rows ``k`` ``(N)``, with coefficients in the dtype of ``like``, or float32."""
        count = offsets.shape[0] - last
        place = torch.arange(k.shape[0], dtype=offsets.dtype, device=k.device)
        bag = torch.searchsorted(offsets, place, right=True) - 1
        # behind a last offset there may be samples that are in no bag
        kept = ((k != padding) & (bag < count)).to(widen(like).dtype)
        bag = bag.clamp(max=max(count - 1, 0))
        size = kept.new_zeros(count).index_add(0, bag, kept)
        return cls(bag, kept / size.clamp(min=1)[bag] if mode == "mean" else kept, size)

    def sum(self, rows: Tensor) -> Tensor:
        """The sum ``(B, D)`` of the rows ``(N, D)`` of each bag."""
        return rows.new_zeros(self.size.shape[0], rows.shape[1]).index_add(0, self.bag, rows)


class EmbeddingBagRule(Rule):
    """Saves k, the offsets, s, and w for the gradient of s; for a maximum its rows instead of k.

    Returns ``(y, m)``, with an empty m unless it is a maximum.
    """

    @staticmethod
    def forward(
        w: Tensor,
        k: Tensor,
        offsets: Tensor,
        s: Tensor | None,
        mode: str,
        scaled: bool,
        sparse: bool,
        last: bool,
        padding: int | None,
    ) -> tuple[Tensor, Tensor]:
        if any(map(is_batched, (w, k, offsets, s))):
            return _batched(w, k, s, mode, Bags.of(k, offsets, _padding(padding, w), mode, last, w))
        y, _, _, m = torch.embedding_bag(w, k, offsets, scaled, MODES[mode], sparse, s, last, padding)
        return y, m if mode == "max" else k.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        w, k, offsets, s, ctx.mode, ctx.scaled, ctx.sparse, ctx.last, padding = inputs
        ctx.rows, ctx.padding = w.shape[0], _padding(padding, w)
        m = output[1] if ctx.mode == "max" else None
        ctx.mark_non_differentiable(output[1])
        needs_w, needs_s = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        ctx.save_for_backward(w if needs_s else None, k, offsets, s if needs_w else None, m)
        ctx.save_for_forward(w, k, offsets, s, m)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        w, k, offsets, s, m = ctx.saved_tensors
        needs_w, needs_s = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        bags = Bags.of(k, offsets, ctx.padding, ctx.mode, ctx.last, grad_y)
        g = widen(grad_y)
        grad_w = grad_s = None
        if needs_w and m is not None:
            g = torch.where(bags.size.unsqueeze(-1) > 0, g, 0)
            grad_w = g.new_zeros(ctx.rows, g.shape[1]).scatter_add(0, m.long(), g).to(grad_y.dtype)
        elif needs_w:
            c = bags.coefficient if s is None else bags.coefficient * widen(s)
            if not ctx.sparse and first_order(grad_y, k, c):
                grad_w = _transposed(ctx, g, k, bags.bag, c).to(grad_y.dtype)
            else:
                gradient = sparse_rows if ctx.sparse else dense_rows
                values = (g[bags.bag] * c.unsqueeze(-1)).to(grad_y.dtype)
                # which rows of a fake tensor are padding cannot be known, and their values are zeros
                padding = -1 if isinstance(k, FakeTensor) else ctx.padding
                grad_w = gradient(values, k, ctx.rows, padding, ctx.scaled)
        if needs_s:
            products = (g[bags.bag] * widen(w)[k.long()]).sum(-1)
            grad_s = (bags.coefficient * products).to(w.dtype)
        return grad_w, None, None, grad_s, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_w: Tensor | None, *tangents: Any) -> tuple[Tensor, None]:
        w, k, offsets, s, m = ctx.saved_tensors
        bags = Bags.of(k, offsets, ctx.padding, ctx.mode, ctx.last, w)
        if m is not None:
            # without samples m is any row
            filled = (bags.size > 0).unsqueeze(-1).to(w.dtype)
            return torch.zeros_like(w) if tangent_w is None else tangent_w.gather(0, m.long()) * filled, None
        tangent_s = tangents[2]
        rows = w.new_zeros(k.shape[0], w.shape[1])
        if tangent_w is not None:
            rows = rows + (tangent_w[k.long()] if s is None else tangent_w[k.long()] * s.unsqueeze(-1))
        if tangent_s is not None:
            rows = rows + w[k.long()] * tangent_s.unsqueeze(-1)
        rows = widen(rows) * bags.coefficient.unsqueeze(-1)
        return bags.sum(rows).to(w.dtype), None


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of rows of ``weight``; as :func:`torch.nn.functional.embedding_bag`.

    Args:
        input: row numbers ``(B, N)``, a bag a row, or ``(N)`` with offsets.
        weight: ``(V, D)``.
        offsets: where each bag starts ``(B)``.
        max_norm: rows of a larger norm are first scaled to it, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide a row's gradient by the number of its lookups (torch may take those of
            another row).
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        sparse: make the gradient of ``weight`` a sparse tensor.
        per_sample_weights: the shape of the input; for sums.
        include_last_offset: ``offsets`` ends with where the last bag ends ``(B + 1)``.
        padding_idx: a row that counts for nothing and gets no gradient.

    Returns:
        ``(B, D)``.

    Raises:
        ValueError: shapes or options that do not fit, in torch's words.
        NotImplementedError: weights of samples without a sum, in torch's words.

    >>> embedding_bag(torch.tensor([[2, 0]]), torch.eye(3), mode="sum")
    tensor([[1., 0., 1.]])
    """
    supported = _is_supported(input, mode, scale_grad_by_freq or sparse, per_sample_weights)
    if not (supported and _is_flat_or_square(input, weight, offsets)):
        # torch refuses it in its own words, or knows a kind of input that is not ours
        arguments = input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse
        return F.embedding_bag(*arguments, per_sample_weights, include_last_offset, padding_idx)
    if offsets is None:
        offsets = torch.arange(0, input.numel(), input.shape[1], dtype=input.dtype, device=input.device)
        include_last_offset = False
    if max_norm is not None:
        renormalize(input, weight, max_norm, norm_type)
    s = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    options = mode, scale_grad_by_freq, sparse, include_last_offset, padding_idx
    return EmbeddingBagRule.call(weight, input.reshape(-1), offsets, s, *options)[0]


class EmbeddingBag(torch.nn.EmbeddingBag):
    """Drop-in for :class:`torch.nn.EmbeddingBag`, whose constructors, state and repr it inherits."""

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        """Maps ``(B, N)``, or ``(N)`` and offsets ``(B)``, to ``(B, embedding_dim)``."""
        return embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )


def _is_flat_or_square(input: Tensor, weight: Tensor, offsets: Tensor | None) -> bool:
    if weight.dim() != 2 or input.is_nested or input.is_floating_point():
        return False
    if input.dim() == 2:
        return offsets is None
    return input.dim() == 1 and offsets is not None and offsets.dim() == 1


def _is_supported(input: Tensor, mode: str, scaled_or_sparse: bool, s: Tensor | None) -> bool:
    if s is not None and (mode != "sum" or s.shape != input.shape):
        return False
    return mode in ("sum", "mean") or (mode == "max" and not scaled_or_sparse)


def _transposed(ctx: Any, g: Tensor, k: Tensor, bag: Tensor, c: Tensor) -> Tensor:
    """The gradient of the table as bags of the rows of g: one bag for each row of the table."""
    rows, order = k.long().sort(stable=True)
    starts = torch.searchsorted(rows, torch.arange(ctx.rows, device=k.device))
    if ctx.scaled:
        c = c / frequencies(k.long(), ctx.rows)[k.long()]
    grad_w = torch.embedding_bag(g, bag[order].long(), starts, False, 0, False, c[order].to(g.dtype))[0]
    if ctx.padding >= 0:
        # an undefined gradient of the padding leaves no trace
        grad_w[ctx.padding] = 0
    return grad_w


def _padding(padding: int | None, w: Tensor) -> int:
    """The row of the padding, or -1; for torch's operator -1 would be the last."""
    return -1 if padding is None else padding % w.shape[0]


def _batched(w: Tensor, k: Tensor, s: Tensor | None, mode: str, bags: Bags) -> tuple[Tensor, Tensor]:
    """The forward pass in operators that vmap can batch."""
    rows = w[k.long()]
    if mode != "max":
        c = bags.coefficient if s is None else bags.coefficient * s
        return bags.sum(rows * c.unsqueeze(-1)).to(w.dtype), k.new_zeros(0)
    kept = torch.where(bags.coefficient.unsqueeze(-1) > 0, rows, -torch.inf)
    index = bags.bag.unsqueeze(-1).expand(rows.shape)
    most = kept.new_full((bags.size.shape[0], rows.shape[1]), -torch.inf).scatter_reduce(
        0, index, kept, "amax"
    )
    # of equal ones the first, as in torch
    place = torch.arange(k.shape[0], device=k.device).unsqueeze(-1)
    places = torch.where(kept == most.gather(0, index), place, k.shape[0] - 1)
    first = torch.full_like(most, k.shape[0] - 1, dtype=torch.long).scatter_reduce(0, index, places, "amin")
    return torch.where(bags.size.unsqueeze(-1) > 0, most, 0), k[first]


SPECS = (
    LayerSpec(
        EmbeddingBag,
        torch.nn.EmbeddingBag,
        (
            case(Draw((2, 3), "classes", 4), num_embeddings=4, embedding_dim=3, padding_idx=1),
            case(Draw((2, 3), "classes", 4), num_embeddings=4, embedding_dim=3, mode="max"),
            case(Draw((3, 2), "classes", 3), num_embeddings=3, embedding_dim=2, mode="sum"),
        ),
        large=case(Draw((1024, 8), "classes", 10000), num_embeddings=10000, embedding_dim=256),
    ),
)
