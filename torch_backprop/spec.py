"""What a layer declares about itself: from it follow the tests, the verifier, the benchmark, the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin


@dataclass(frozen=True)
class Draw:
    """A random tensor to be drawn: an input, or a tensor among a layer's options.

    ``kind`` is ``"normal"``; ``"unit"``, uniform in (0, 1); ``"probabilities"``, positive and summing to one
    over dimension 1; ``"classes"``, integers in [0, ``classes``); ``"distinct"``, the same, no two alike;
    ``"lengths"``, integers in the upper half of [1, ``classes``]; ``"signs"``, the integers -1 and 1; or
    ``"labels"``, rows that each list some classes once, ended by -1 where there is room.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    classes: int = 0

    def tensor(self, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Draws the tensor; floating-point kinds in ``dtype``."""
        if self.kind == "classes":
            return torch.randint(self.classes, self.shape, generator=generator)
        if self.kind == "distinct":
            drawn = torch.randperm(self.classes, generator=generator)
            return drawn[: math.prod(self.shape)].reshape(self.shape)
        if self.kind == "lengths":
            return torch.randint((self.classes + 1) // 2, self.classes + 1, self.shape, generator=generator)
        if self.kind == "signs":
            return 2 * torch.randint(2, self.shape, generator=generator) - 1
        if self.kind == "labels":
            order = torch.rand(self.shape, generator=generator).argsort(-1)
            counts = torch.randint(self.shape[-1] + 1, (*self.shape[:-1], 1), generator=generator)
            return torch.where(torch.arange(self.shape[-1]) < counts, order, -1)
        real = torch.float64 if dtype.is_complex else dtype
        if self.kind == "normal":
            drawn = torch.randn(self.shape, generator=generator, dtype=torch.promote_types(real, dtype))
        else:
            # away from 0 and 1, where logarithms end
            drawn = torch.rand(self.shape, generator=generator, dtype=torch.float64) * 0.98 + 0.01
        if self.kind == "probabilities":
            drawn = drawn / drawn.sum(min(1, drawn.dim() - 1), keepdim=True)
        return drawn.to(dtype)


class Called(torch.nn.Module):
    """A layer that is called in a way of its own: ``call(layer, *inputs)``."""

    def __init__(self, layer: torch.nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.call = call
        self.training = layer.training

    def forward(self, *inputs: Any) -> Any:
        """What ``call`` returns."""
        return self.call(self.layer, *inputs)


@dataclass(frozen=True)
class Case:
    """One way to build and call a layer: its inputs, its constructor's options, its training flag.

    ``call`` maps the layer and the inputs to the output, where calling the layer with them is not enough.
    """

    inputs: tuple[Draw, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    train: bool = True
    call: Callable[..., Any] | None = None

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, draw.shape)) or "0-dim" for draw in self.inputs)
        options = ",".join(f"{name}={_text(value)}" for name, value in self.options.items())
        call = self.call.__name__ if self.call else ""
        return " ".join(filter(None, (shapes, options, call, "" if self.train else "eval")))

    def build(self, module: type[torch.nn.Module], dtype: torch.dtype, seed: int = 0) -> torch.nn.Module:
        """The module in ``dtype``, with the same parameters whatever class is built from the same seed."""
        generator = torch.Generator().manual_seed(seed)
        options = {
            name: value.tensor(generator, dtype) if isinstance(value, Draw) else value
            for name, value in self.options.items()
        }
        # the caller's random numbers are none of our business, on whatever device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            # a layer among the options
            options |= {name: value() for name, value in options.items() if isinstance(value, partial)}
            built = module(**options).to(dtype).train(self.train)
            return materialized(built, *self.draw(dtype, seed))

    def called(self, layer: torch.nn.Module) -> torch.nn.Module:
        """The layer as a module that is called with the inputs alone."""
        return layer if self.call is None else Called(layer, self.call)

    def draw(self, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
        """The inputs in ``dtype``, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed + 1)
        return tuple(draw.tensor(generator, dtype) for draw in self.inputs)


@dataclass(frozen=True)
class LayerSpec:
    """A layer, the built-in that it must equal, and the cases on which it is held against it.

    ``properties`` name what checks need to know: ``"view"``, it moves no numbers and may return its input;
    ``"quadratic"``, its work grows with the square of the inputs' first dimension; ``"inverted"``, its
    backward pass recovers the input from the output, to the rounding of that, if it is finite, and reads all
    parameters again. ``large`` is the case on which it is measured, at a million elements or more; without
    it, the first case with that many rows.
    """

    layer: type[torch.nn.Module]
    reference: type[torch.nn.Module]
    cases: tuple[Case, ...]
    properties: frozenset[str] = frozenset()
    large: Case | None = None


def case(
    *inputs: Draw | tuple[int, ...],
    train: bool = True,
    call: Callable[..., Any] | None = None,
    **options: Any,
) -> Case:
    """A :class:`Case`; an input given as a shape is drawn normal.

    >>> str(case((4, 8), in_features=8, out_features=3))
    '4x8 in_features=8,out_features=3'
    """
    draws = tuple(item if isinstance(item, Draw) else Draw(item) for item in inputs)
    return Case(draws, options, train, call)


def materialized(module: torch.nn.Module, *inputs: Tensor) -> torch.nn.Module:
    """The module; a lazy one after it has seen the shapes of ``inputs``, and become what it becomes."""
    if isinstance(module, LazyModuleMixin):
        # not by a call, which would count in running statistics
        lazy: Any = module
        lazy._infer_parameters(lazy, inputs)
    return module


def _text(value: Any) -> str:
    if isinstance(value, Draw):
        return "x".join(map(str, value.shape))
    named = value.func if isinstance(value, partial) else value
    # not the address of a function, which is another in every process
    return named.__name__ if callable(named) and hasattr(named, "__name__") else str(value)
