"""How much of a result is rounding: every operation of a call rounded another way.

Random rounding of each intermediate result shows what the last bits of a calculation are worth, also where
it cancels numbers that its inputs do not show. Parker (1997), Monte Carlo Arithmetic, UCLA CSD-970002.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class RandomRounding(TorchDispatchMode):
    """Moves every new result of an operation, in both passes, by a unit of rounding up or down."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed, self._calls = seed, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # what torch wraps its modes in imports Dynamo, a second's work in every process of a check
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        aliases = [result.alias_info for result in func._schema.returns]
        if not any(aliases):
            return pytree.tree_map_only(Tensor, self._rounded, results)
        if all(alias is not None and alias.is_write for alias in aliases):
            pytree.tree_map_only(Tensor, lambda x: x.copy_(self._rounded(x)), results)
        # a view of an argument has nothing of its own to round
        return results

    def _rounded(self, result: Tensor) -> Tensor:
        if not (result.is_floating_point() or result.is_complex()) or type(result) is not Tensor:
            return result
        self._calls += 1
        return nudged(result, self._seed + 1000 * self._calls)


def nudged(tensor: Tensor, seed: int = 3) -> Tensor:
    """The tensor with every element moved by a unit of rounding, up or down."""
    # in the tensor's own dtype: in float32, 1 + eps would be 1
    sign = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).sign().to(tensor)
    return tensor * (1 + torch.finfo(tensor.dtype).eps * sign)
