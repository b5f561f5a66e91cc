"""A function of torch.nn.functional beside the same written with plain operators."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.samples import sample


@dataclass(frozen=True)
class Twin:
    """``inputs`` are as in :func:`tests.samples.sample`."""

    name: str
    builtin: Callable[..., Any]
    plain: Callable[..., Any]
    inputs: tuple[Any, ...]

    def sample(self) -> tuple[Any, ...]:
        return sample(self.inputs)
