"""The pullbacks of ordinary tensor operations: a row for each operator that PyTorch dispatches.

A row maps the operator's output and arguments to a pullback for each argument that can have one, in order
(those of a list one by one). What a pullback closes over is what it keeps; a row is called once, and of its
pullbacks those that are not needed are dropped, with what only they would keep. A pullback may return a
cotangent in the broadcast shape, or in another dtype: the tape sums and casts it.
"""

from typing import Any

import torch

from torch_backprop.algorithm.operators import arithmetic, elementwise, indexing, products, reductions, shapes

aten = torch.ops.aten

TABLE: dict[Any, Any] = {
    **arithmetic.TABLE,
    **elementwise.TABLE,
    **indexing.TABLE,
    **products.TABLE,
    **reductions.TABLE,
    **shapes.TABLE,
}

CONSTANT = frozenset(
    getattr(packet, overload)
    for packet in (
        aten.detach, aten.zeros_like, aten.ones_like, aten.full_like, aten.empty_like, aten.rand_like,
        aten.randn_like, aten.randint_like, aten.new_zeros, aten.new_ones, aten.new_full,
        aten.new_empty, aten.new_empty_strided,
        aten._local_scalar_dense, aten.sym_size, aten.sym_stride, aten.sym_numel, aten.resize_,
    )
    for overload in packet.overloads()
) | {torch.ops.prim.device.default}  # fmt: skip
"""Operators whose output does not depend on the numbers in their arguments, or is cut off from them."""

__all__ = ["CONSTANT", "TABLE"]
