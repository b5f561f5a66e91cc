"""A pass of the algorithm over one example or a batch, and what it computed on the way."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils import _pytree as pytree

from torch_backprop.algorithm import Backpropagation, arguments, watch
from torch_backprop.convert import convert, patched, revert
from torch_backprop.tracing import calculation, page, table
from torch_backprop.tracing.record import Comparison, Layer, Loss, Passes, Recording, largest
from torch_backprop.twins import ORIGINALS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL = 1e-2
"""Share of the largest error or gradient of all below which differences are not relative any more."""


class Trace(Passes):
    """The passes of one call, with the attributes of :class:`Passes`, to be seen; see :func:`trace`."""

    def calculation(self, digits: int = 6) -> str:
        """Every number of the calculation with its formula, as a person would work it on paper.

        Args:
            digits: significant ones of each number.

        Returns:
            Lines of text; none where it would be more than anyone would work: several examples, or more than
            some 60 activations and parameters.
        """
        return calculation.write(self, digits)

    def table(self, digits: int = 4, width: int | None = None) -> str:
        """The passes as text for a terminal: the calculation of a small network, and a line each otherwise.

        Args:
            digits: significant ones of each number in the table.
            width: characters of a line of the table, by default as many as the terminal has.
        """
        width = width or shutil.get_terminal_size().columns
        return "\n\n".join(part for part in (self.calculation(), table.write(self, digits, width)) if part)

    def to_html(self) -> str:
        """The passes as one self-contained page."""
        return page.write(self)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The network drawn twice: with its activations on the way forward, and its errors on the way back.

        Args:
            path: where to save the drawing too, as PNG, SVG or PDF by its ending.

        Raises:
            ImportError: matplotlib is not installed.
        """
        # Only here, since nothing else needs matplotlib.
        from torch_backprop.tracing import drawing

        return drawing.draw(self, path)

    def __str__(self) -> str:
        return self.table()


def trace(model: Module, loss: Loss, inputs: Any, targets: Any) -> Trace:
    """Runs backpropagation once by the rules of this package, notes every layer, and holds it to autograd.

    Nothing of the model changes, its buffers neither, and no random numbers are consumed: a copy runs, its
    layers converted to those of this package. Another copy, of torch's own layers, runs under autograd.

    Args:
        model: of layers of this package or of torch, joined by ordinary operations of tensors.
        loss: maps ``(output, targets)`` to the cost, a scalar.
        inputs: what the model is called with: a tensor; a tuple of arguments; or a dict of named ones.
        targets: what the loss is called with after the output.

    Raises:
        NotImplementedError, TypeError, ValueError: as :class:`torch_backprop.Backpropagation` raises them.

    >>> import torch, torch_backprop
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.fill_(1.0)
    >>> found = trace(model, torch.nn.functional.mse_loss, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]]))
    >>> found.layers[0].activation, found.layers[0].error.ours, found.gradients["weight"].ours
    (tensor([[3.]]), tensor([[4.]]), tensor([[4., 8.]]))
    >>> found.difference
    0.0
    """
    # The caller may be in inference mode, whose tensors autograd cannot follow.
    with torch.inference_mode(False):
        inputs, targets = pytree.tree_map_only(Tensor, _ordinary, (inputs, targets))
        own, own_loss, cost, gradients = _by_hand(model, loss, inputs, targets)
        expected_cost, errors, expected = _by_autograd(model, loss, inputs, targets)
    least = SMALL * max(map(largest, (*errors.values(), *expected.values())), default=0.0)
    compared = {name: Comparison(gradients.get(name), value, least) for name, value in expected.items()}
    owners = {name: _owner(name, own.layers) for name in compared}
    layers = []
    for layer in own.layers:
        error = Comparison(own.errors.get(layer.title), errors.get(layer.title), least)
        mine = {name: compared[name] for name, owner in owners.items() if owner is layer}
        layers.append(replace(layer, error=error, gradients=mine))
    return Trace(inputs, targets, own_loss, Comparison(cost, expected_cost), tuple(layers), compared)


def _by_hand(
    model: Module, loss: Loss, inputs: Any, targets: Any
) -> tuple[Recording, Loss, Tensor, dict[str, Tensor]]:
    """The passes by the rules: the layers and their errors, the loss, the cost and the gradients."""
    own, own_loss = deepcopy((model, loss))
    for module in _modules(own, own_loss):
        convert(module)
    algorithm, recording = Backpropagation(own, own_loss), Recording(own, watch)
    with torch.random.fork_rng(), patched(), recording.listen():
        cost, gradients = algorithm(inputs, targets)
    recording.errors = algorithm.watched
    return recording, own_loss, cost, {name: _dense(g) for name, g in gradients.items()}


def _by_autograd(
    model: Module, loss: Loss, inputs: Any, targets: Any
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor | None]]:
    """The same by torch's own layers under autograd: the cost, the errors and the gradients."""
    theirs, their_loss = deepcopy((model, loss))
    for whole in _modules(theirs, their_loss):
        revert(whole)
        # Layers of this package that were made as such.
        for module in whole.modules():
            module.__class__ = ORIGINALS.get(type(module), type(module))
    errors: dict[str, Tensor] = {}

    def see(title: str, y: Tensor) -> None:
        if y.requires_grad:
            y.register_hook(lambda g: errors.__setitem__(title, g))

    with torch.random.fork_rng(), torch.enable_grad(), Recording(theirs, see).listen():
        # What hangs on the inputs alone has an error too.
        output = arguments.predicted(theirs, pytree.tree_map(_hanging, inputs))
        cost = their_loss(output, targets)
        cost.backward()
    named = dict(theirs.named_parameters())
    if isinstance(their_loss, Module):
        own = set(named.values())
        named |= {f"loss.{name}": p for name, p in their_loss.named_parameters() if p not in own}
    return cost.detach(), errors, {name: _dense(p.grad) for name, p in named.items() if p.requires_grad}


def _modules(model: Module, loss: Loss) -> list[Module]:
    return [part for part in (model, loss) if isinstance(part, Module)]


def _hanging(x: Any) -> Any:
    """A tensor like ``x`` that autograd follows, and that may be written into."""
    follows = isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
    return x.detach().requires_grad_().clone() if follows else x


def _ordinary(x: Tensor) -> Tensor:
    return x.clone() if x.is_inference() else x


def _dense(gradient: Any) -> Any:
    return gradient.to_dense() if isinstance(gradient, Tensor) and gradient.is_sparse else gradient


def _owner(name: str, layers: list[Layer]) -> Layer | None:
    """The first call of the innermost layer that the parameter of this name is a part of."""
    owner = None
    for layer in layers:
        within = name.startswith(f"{layer.name}.") if layer.name else not name.startswith("loss.")
        if within and (owner is None or len(layer.name) > len(owner.name)):
            owner = layer
    return owner
