"""Gradients by the entrance to autograd's engine that ``torch.autograd.grad`` and ``backward`` end in.

They themselves compare the shapes of cotangents by SymPy first, whose import takes longer than a quick check.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import _engine_run_backward


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    create_graph: bool = False,
    retain_graph: bool = False,
) -> tuple[Tensor | None, ...]:
    """As ``torch.autograd.grad``; None for an input on which no output depends."""
    retained = retain_graph or create_graph
    return _engine_run_backward(
        tuple(outputs), tuple(cotangents), retained, create_graph, tuple(inputs), True, accumulate_grad=False
    )


def accumulate(outputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> None:
    """As ``torch.autograd.backward``."""
    _engine_run_backward(tuple(outputs), tuple(cotangents), False, False, (), True, accumulate_grad=True)
