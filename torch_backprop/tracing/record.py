"""What passes through the layers of a model: outputs on the way forward, errors on the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils import _pytree as pytree

See = Callable[[str, Tensor], None]
"""What is done to each output, under its layer's title, while the model runs."""

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same derivative by the rules of this package, and by autograd; None where the cost has none.

    Attributes:
        least: what a difference is relative to at least, for what is but rounding has no relative error.
    """

    ours: Tensor | None
    autograd: Tensor | None
    least: float = 0.0

    @property
    def difference(self) -> float:
        """The largest difference of two elements, relative to the largest element of autograd's."""
        if self.ours is None or self.autograd is None:
            return 0.0 if self.ours is self.autograd else float("inf")
        scale = max(largest(self.autograd), self.least)
        return largest(self.ours - self.autograd) / (scale or 1.0)


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a layer, or one output of it if it has several.

    Attributes:
        title: its name in the model; ``"name#2"`` for a second call, ``"name[1]"`` for a second output.
        name: its name in the model.
        module: itself, a copy made of this package's layers.
        input: the first tensor that it was called with; None if there was none.
        activation: its output.
        error: the gradient of the cost that reaches this output.
        gradients: those of the parameters that are its own, by their names in the model; where it is called
            several times, or has several outputs, they are at the first and belong to all.
    """

    title: str
    name: str
    module: Module
    input: Tensor | None
    activation: Tensor
    error: Comparison = Comparison(None, None)
    gradients: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.module).__name__


@dataclass(frozen=True, eq=False)
class Passes:
    """Forward pass, cost and backward pass of one call, layer by layer.

    Attributes:
        inputs: what the model was called with.
        targets: what the loss compared its output with.
        loss: the module or function that gave the cost.
        cost: the cost, a scalar, by this package and by autograd.
        layers: in the order of the forward pass.
        gradients: of all parameters by name, those that belong to no layer and those of the loss among them.
    """

    inputs: Any
    targets: Any
    loss: Loss
    cost: Comparison
    layers: tuple[Layer, ...]
    gradients: Mapping[str, Comparison]

    @property
    def difference(self) -> float:
        """The largest difference to autograd, over the cost, all errors and all gradients.

        Each is relative to the largest element of its tensor, but at least to a hundredth of the largest
        of all: the gradient of a bias before a batch norm is nothing but rounding.
        """
        errors = [layer.error for layer in self.layers]
        return max(each.difference for each in (self.cost, *errors, *self.gradients.values()))


class Recording:
    """Notes every layer of `model` that runs within :meth:`listen`.

    A layer is a module that calls no other, or that has parameters of its own beside those of the others.

    Args:
        model: whose layers are listened to.
        see: gets each output.

    Attributes:
        layers: in order, one for each output.
        errors: the gradient that reached each output, by its layer's title, if anybody notes it here.
    """

    def __init__(self, model: Module, see: See) -> None:
        self.model, self.see = model, see
        self.layers: list[Layer] = []
        self.errors: dict[Any, Tensor] = {}
        self._calls: Counter[str] = Counter()
        # For each call under way, whether it has called another module.
        self._outer: list[bool] = []

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Have the outputs noted while the model runs in the block."""
        handles = []
        for name, module in self.model.named_modules():
            # What makes a layer's parameters is a part of that layer.
            if "parametrizations" in name.split("."):
                continue
            handles += [
                module.register_forward_pre_hook(self._enter),
                module.register_forward_hook(self._leave(name)),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, *_: Any) -> None:
        self._outer = [True] * len(self._outer) + [False]

    def _leave(self, name: str) -> Callable[[Module, Any, Any], None]:
        def leave(module: Module, args: Any, output: Any) -> None:
            calls_others = self._outer.pop()
            if not calls_others or next(module.parameters(recurse=False), None) is not None:
                self._note(name, module, args, output)

        return leave

    def _note(self, name: str, module: Module, args: Any, output: Any) -> None:
        self._calls[name] += 1
        call = f"#{self._calls[name]}" if self._calls[name] > 1 else ""
        outputs = [y for y in pytree.tree_leaves(output) if isinstance(y, Tensor)]
        given = next((x for x in pytree.tree_leaves(args) if isinstance(x, Tensor)), None)
        for index, y in enumerate(outputs):
            title = f"{name or type(module).__name__}{call}{f'[{index}]' if index else ''}"
            # Copies, for a later layer may write in place; constants, for what is noted takes no part.
            with torch.no_grad():
                self.layers.append(Layer(title, name, module, copied(given), y.detach().clone()))
            if y.is_floating_point():
                self.see(title, y)


def largest(x: Tensor | None) -> float:
    """The size of the largest element; 0 if there is none."""
    return x.abs().max().item() if x is not None and x.numel() else 0.0


def copied(x: Tensor | None) -> Tensor | None:
    """A copy of a tensor, if there is one."""
    return None if x is None else x.detach().clone()
