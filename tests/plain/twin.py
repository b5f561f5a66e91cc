"""A function of torch.nn.functional beside the same written with plain operators."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from torch_backprop.spec import Draw


@dataclass(frozen=True)
class Twin:
    """``inputs`` are shapes, to be drawn normal, or draws of another kind, or arguments taken as they are."""

    name: str
    builtin: Callable[..., Any]
    plain: Callable[..., Any]
    inputs: tuple[Any, ...]

    def sample(self) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(0)
        draws = (Draw(item) if isinstance(item, tuple) else item for item in self.inputs)
        tensors = (item.tensor(generator, torch.float64) if isinstance(item, Draw) else item for item in draws)
        return tuple(tensor.requires_grad_() if _real(tensor) else tensor for tensor in tensors)


def _real(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.is_floating_point()
