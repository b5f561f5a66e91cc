"""The attention function, in a module of its own, held to every check; and what the checks cannot ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks import CHECKS, COMPILED_CHECKS
from torch import Tensor

from torch_backprop import functional
from torch_backprop.layers.attention import tiling
from torch_backprop.spec import Case, Draw, LayerSpec, case


class Builtin(torch.nn.Module):
    """torch's function, with a mask of integers read as booleans."""

    function: Callable[..., Tensor] = staticmethod(torch.nn.functional.scaled_dot_product_attention)

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = mask.bool() if mask is not None and mask.dtype == torch.int64 else mask
        return self.function(query, key, value, mask, **self.options)


class Attention(Builtin):
    function = staticmethod(functional.scaled_dot_product_attention)


def qkv(*shape: int, keys: int = 4) -> tuple[tuple[int, ...], ...]:
    return shape, (*shape[:-2], keys, shape[-1]), (*shape[:-2], keys, shape[-1])


SEEN = Draw((3, 4), "classes", 2)
CASES = (
    case(*qkv(1, 2, 3, 4), is_causal=True),
    case(*qkv(2, 3, 4), SEEN),
    case(*qkv(1, 2, 3, 4), (2, 1, 4), scale=0.7),
    case((1, 4, 3, 4), (1, 2, 4, 4), (1, 2, 4, 4), enable_gqa=True),
)
RANDOM = (case(*qkv(1, 2, 3, 4, keys=12), dropout_p=0.3), case(*qkv(3, 4), dropout_p=1.0))
QUADRATIC = frozenset({"quadratic"})
SPECS = (
    LayerSpec(Attention, Builtin, CASES, QUADRATIC),
    LayerSpec(Attention, Builtin, RANDOM, QUADRATIC | {"random"}),
)
EVERY = [pytest.param(spec, case, id=str(case)) for spec in SPECS for case in spec.cases]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("spec", "case"), EVERY)
def test_function(spec: LayerSpec, case: Case, check: Callable[..., None]) -> None:
    check(spec, case)
