r"""One example at a time without a compiler: vectors, and rank-one updates in place.

A model is a list of layers from vectors to vectors. Forward through all; the error dL/dy from the loss; and
backward through those from the last to the first that learns, each of which is updated as soon as its error
has gone on to the layer before. All of it lies in the same memory for each example, so that an example is a
list of steps, looked up once: its time is that of some ten calls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_backprop.optim.descend.path import Pass, Stretches
from torch_backprop.optim.descend.settings import allow, check_modules, check_rows, check_settings, learning
from torch_backprop.optim.descend.vector_layers import Affine, Joined, vector_layers
from torch_backprop.optim.descend.vector_losses import vector_loss


class Vectors(Stretches):
    """Descends over one example after the other.

    Args:
        course: whose model has Linear and elementwise layers in Sequential, also nested, and whose loss is
            cross entropy or squared error, as a module or a function.

    Raises:
        Refused: if any of these is something else.
    """

    name = "vectors"
    stretch = 1024

    def __init__(self, course: Pass) -> None:
        check_rows(course.inputs, course.targets)
        check_settings(course.optimizer)
        check_modules(course.model, course.loss)
        settings, inputs = learning(course.optimizer), course.inputs
        example = inputs.new_empty(inputs.shape[1:])
        self.layers, self.start, self.end = vector_layers(course.model, example, settings)
        self.loss = vector_loss(course.loss)
        self.affine = [layer for layer in self.layers if isinstance(layer, Affine)]
        self.weights = weights = [theta for layer in self.affine for theta in layer.parameters]
        allow(len(set(weights)) == len(weights), "it updates a layer before the next one that shares with it")
        allow(settings.keys() <= set(weights), "a parameter that learns is in no layer that it knows")
        same = all((theta.dtype, theta.device) == (inputs.dtype, inputs.device) for theta in weights)
        same = same and inputs.dtype in (torch.float32, torch.float64)
        allow(same, f"parameters and inputs are all float32, or all float64, and inputs is {inputs.dtype}")
        self.kept, self.rows = inputs.new_empty(0), ()
        # What comes before the first layer that learns needs no error.
        first = next((place for place, layer in enumerate(self.layers) if layer.learns), len(self.layers))
        self.forwards = [step for layer in self.layers for step in layer.forwards]
        self.backwards = [step for layer in self.layers[first:][::-1] for step in layer.backwards]

    @classmethod
    def open(cls, course: Pass) -> Vectors:
        """Return it for a model that it knows."""
        return cls(course)

    def run(self, inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """Descend; see `Stretches.run`.

        Raises:
            Refused: if the targets are of another kind; nothing is done then.
        """
        with torch.inference_mode():
            truths = self.loss.prepare(self.end.g, targets)
            before = [theta.clone() for theta in self.weights]
            try:
                costs = self._run(inputs, truths, targets, rates)
                finite = int(torch.isfinite(costs).long().cumprod(0).sum())
            # A stretch that is interrupted, or spoilt by an example, is none.
            except BaseException:
                self._restore(before)
                raise
            if finite < len(costs):
                self._restore(before)
                costs = self._run(inputs[:finite], truths[:finite], targets[:finite], rates[:finite])
            return costs

    def _run(self, inputs: Tensor, truths: list[Tensor], targets: Tensor, rates: Tensor) -> Tensor:
        count, rows = len(inputs), inputs.flatten(1)
        if isinstance(self.layers[0], Joined):
            rows = torch.cat((rows, rows.new_ones(count, 1)), 1)
        for layer in self.affine:
            layer.begin(rates)
        # The outputs have the same memory in each stretch.
        if len(self.kept) < count:
            self.kept = inputs.new_empty(count, self.end.y.shape[1])
            self.rows = self.kept.unsqueeze(1).unbind()
        start, end, gradient = self.start, self.end, self.loss.gradient
        for start.x, truth, end.y in zip(rows.unsqueeze(1).unbind(), truths, self.rows, strict=False):
            for step in self.forwards:
                step()
            gradient(end.y, truth, end.g)
            for step in self.backwards:
                step()
        for layer in self.affine:
            layer.end()
        return self.loss.costs(self.kept[:count], targets)

    def _restore(self, kept: list[Tensor]) -> None:
        for theta, value in zip(self.weights, kept, strict=True):
            theta.copy_(value)
