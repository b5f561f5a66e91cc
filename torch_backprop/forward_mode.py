"""Forward mode of any order.

PyTorch calls the ``jvp`` of a Function with forward mode switched off, so that a second forward pass sees a
constant and silently returns 0. Here ``jvp`` runs with forward mode on and its residuals stripped of the
tangent of this level: what remains are the tangents of the outer levels, and ``jvp`` of ``jvp`` is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import forward_ad


def nestable(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """The ``jvp`` of a rule, right inside another forward pass too."""

    def nestable_jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(_Primals(ctx), *tangents)

    return nestable_jvp


class _Primals:
    """A context whose saved tensors have lost the tangents of the innermost forward-mode level."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(
            None if tensor is None else forward_ad.unpack_dual(tensor, level=0).primal
            for tensor in self._ctx.saved_tensors
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)
