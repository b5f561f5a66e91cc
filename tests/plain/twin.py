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
        return tuple(_drawn(item, generator) for item in self.inputs)


def _drawn(item: Any, generator: torch.Generator) -> Any:
    if not isinstance(item, (tuple, Draw)):
        return item
    draw = item if isinstance(item, Draw) else Draw(item)
    tensor = draw.tensor(generator, torch.float64)
    return tensor if draw.kind == "classes" else tensor.requires_grad_()
