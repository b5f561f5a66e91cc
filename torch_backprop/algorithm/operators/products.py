"""Products of matrices and vectors; einsum, matmul, outer and linear are dispatched as these.

With Y = A B and G = dL/dY: dL/dA = G B^H and dL/dB = A^H G.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.algorithm.operators.arithmetic import conj

aten = torch.ops.aten


def _product(y: Tensor, a: Tensor, b: Tensor) -> Any:
    return lambda g: g @ b.mH, lambda g: a.mH @ g


def _summed_product(y: Tensor, c: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return (
        lambda g: g if beta == 1 else g * conj(beta),
        lambda g: g @ b.mH if alpha == 1 else conj(alpha) * (g @ b.mH),
        lambda g: a.mH @ g if alpha == 1 else conj(alpha) * (a.mH @ g),
    )


def _summed_batches(y: Tensor, c: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return (
        lambda g: g * conj(beta),
        lambda g: conj(alpha) * (g @ b.mH),
        lambda g: conj(alpha) * (a.mH @ g),
    )


def _summed_vector(y: Tensor, c: Tensor, a: Tensor, v: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return (
        lambda g: g * conj(beta),
        lambda g: conj(alpha) * torch.outer(g, v.conj()),
        lambda g: conj(alpha) * (a.mH @ g),
    )


def _summed_outer(y: Tensor, c: Tensor, u: Tensor, v: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return (
        lambda g: g * conj(beta),
        lambda g: conj(alpha) * (g @ v.conj()),
        lambda g: conj(alpha) * (g.mT @ u.conj()),
    )


TABLE = {
    aten.mm.default: _product,
    aten.bmm.default: _product,
    aten.addmm.default: _summed_product,
    aten.baddbmm.default: _summed_product,
    aten.mv.default: lambda y, a, v: (lambda g: torch.outer(g, v.conj()), lambda g: a.mH @ g),
    aten.addmv.default: _summed_vector,
    aten.addr.default: _summed_outer,
    aten.addbmm.default: _summed_batches,
    aten.dot.default: lambda y, u, v: (lambda g: g * v.conj(), lambda g: g * u.conj()),
    aten.vdot.default: lambda y, u, v: (lambda g: g.conj() * v, lambda g: g * u),
}
