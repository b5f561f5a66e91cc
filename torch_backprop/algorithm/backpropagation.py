"""Backpropagation. Rumelhart, Hinton & Williams (1986), Nature 323, 533-536.

    forward pass    each layer computes its output, and keeps what its pullback needs
    cost            one number, which says how far the outputs are from the targets
    backward pass   in reverse, each layer's pullback takes the error of its output, dL/dy, to that of its
                    input and to the gradients of its parameters
    update          each parameter moves against its gradient

The rules of this package are the layers' pullbacks; the tape keeps them and runs them in reverse. A parameter
that is used several times has its gradient when the first of its uses, the last in reverse, has been passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from torch_backprop.algorithm import arguments
from torch_backprop.algorithm.arguments import Loss
from torch_backprop.algorithm.step import TrainingStep
from torch_backprop.algorithm.tape import Tape
from torch_backprop.algorithm.update import check_update, updating


class Backpropagation:
    """The algorithm itself: forward pass, cost, backward pass and update, without autograd.

    Rules, the backward pass and the update run under ``no_grad``. The model's own code sees grad mode on and
    no tensor that requires a gradient: so its ``no_grad`` blocks and its ``detach`` mean what they mean in
    training, and still no ``grad_fn`` is made.

    Args:
        model: made of the layers and functions of this package, converted ones too, joined by ordinary
            operations of tensors.
        loss: maps ``(output, targets)`` to the cost, a scalar. Where it is a module with parameters of its
            own, their names begin with ``"loss."``.
        update: an optimizer that moves each parameter as soon as its gradient is known, which is then freed,
            so that no more than one layer's gradients are held. It has to be one that moves each parameter
            by its own gradient alone.

    Attributes:
        watched: the cotangents of the tensors that were watched (:func:`watch`) in the last call.

    Raises:
        TypeError: the model is no module, the loss cannot be called, or the update is no optimizer.
        ValueError: the optimizer needs all gradients at once.

    >>> import torch, torch_backprop
    >>> model = torch_backprop.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.fill_(1.0)
    >>> algorithm = Backpropagation(model, torch_backprop.functional.mse_loss)
    >>> cost, gradients = algorithm(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]]))
    >>> cost, gradients["weight"]
    (tensor(4.), tensor([[4., 8.]]))
    """

    def __init__(self, model: Module, loss: Loss, update: torch.optim.Optimizer | None = None) -> None:
        arguments.check_types(model, loss, update)
        if update is not None:
            check_update(update)
        self.model, self.loss, self.update = model, loss, update
        self.watched: dict[Any, Tensor] = {}

    def __call__(self, inputs: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs the algorithm once.

        Args:
            inputs: what the model is called with: a tensor; a tuple of arguments; or a dict of named ones.
            targets: what the loss is called with after the output.

        Returns:
            The cost ``()``, and by name the gradient of each parameter that requires one and that the cost
            depends on; a shared parameter has its first name. With ``update`` there are no gradients left.

        Raises:
            NotImplementedError: an operation without a pullback, with its place in the caller's code; or a
                hook that only a backward pass of autograd would call.
            TypeError: inputs of integers where the model computes with real numbers.
            ValueError: nothing learns; targets of another length than the outputs; or a cost that is not one
                finite real number. The parameters are then as they were.
        """
        inputs, targets = arguments.detached(inputs), arguments.detached(targets)
        parameters = arguments.learning(self.model, self.loss, self.update)
        with arguments.held_constant(self.model, self.loss, parameters):
            return self._run(self.model, self.loss, parameters, inputs, targets, self.update)

    def pull_back(
        self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Any, targets: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The same for parameters that are given, as a function of tensors alone, which may be traced.

        Args:
            parameters: by name, those of which the gradients are wanted; the others are the model's own.
            buffers: by name; updated in place where the model does so. Parameters that do not learn may be
                among them.
            inputs: see ``__call__``.
            targets: see ``__call__``.

        Returns:
            Cost and gradients; nothing is updated.
        """
        own = arguments.detached(dict(parameters))
        model, loss = arguments.bound(self.model, self.loss, {**own, **buffers})
        with arguments.held_constant(self.model, self.loss, {}):
            return self._run(model, loss, own, arguments.detached(inputs), arguments.detached(targets))

    def _run(
        self,
        model: Callable[..., Any],
        loss: Loss,
        parameters: Mapping[str, Tensor],
        inputs: Any,
        targets: Any,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        gradients: dict[str, Tensor] = {}
        hooks = arguments.hooks(self.model, self.loss)
        with Tape() as tape:
            for name, parameter in parameters.items():
                tape.learn(name, parameter)
            # forward pass: each operation keeps its residuals
            output = arguments.predicted(model, inputs)
            # cost
            cost = arguments.cost(loss, output, targets, inputs)
            # nothing that the tape knows does
            if cost.requires_grad:
                raise ValueError(arguments.FOREIGN)
        # what is held now is what the pullbacks need
        del output
        with torch.no_grad(), updating(optimizer, parameters, gradients, inputs) as update:
            # backward pass: each operation's pullback, in reverse
            for name, gradient in tape.pull_back(cost):
                # update, or keep for the caller
                update(name, arguments.hooked(gradient, hooks.get(name, ())))
        self.watched = tape.cotangents
        return cost.detach(), gradients

    def training_step(self, optimizer: torch.optim.Optimizer) -> TrainingStep:
        """Forward pass, cost, backward pass and update as one pure function of tensors; see TrainingStep.

        Raises:
            ValueError: the optimizer is none of gradient descent, with or without momentum.
        """
        return TrainingStep(self, optimizer)
