"""Samples as a user would write them, declared as data."""

from typing import Any

import torch

from torch_backprop.spec import Draw


def sample(inputs: tuple[Any, ...], dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    """Draws shapes as normal tensors and Draws as they say; other arguments are taken as they are."""
    generator = torch.Generator().manual_seed(0)
    return tuple(_drawn(item, generator, dtype) for item in inputs)


def _drawn(item: Any, generator: torch.Generator, dtype: torch.dtype) -> Any:
    if not isinstance(item, (tuple, Draw)):
        return item
    draw = item if isinstance(item, Draw) else Draw(item)
    tensor = draw.tensor(generator, dtype)
    return tensor if draw.kind == "classes" else tensor.requires_grad_()
