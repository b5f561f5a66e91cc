"""The calculation on paper: each number of a small network on one example, with the formula it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from torch_backprop.tracing.formulas import ELEMENTWISE, LOSSES, name_of
from torch_backprop.tracing.record import Comparison, Layer, Passes
from torch_backprop.tracing.term import Term, number, total

MOST = 64
"""Numbers that a person would work through: activations and parameters together."""
RELATIVE = 1e-4
"""How far rounding may take a formula from what was computed."""


def write(trace: Passes, digits: int = 6) -> str:
    """The calculation as lines of text, or nothing where it is too large."""
    if not _is_small(trace):
        return ""
    return "\n".join(Paper(trace, digits).lines())


def _is_small(trace: Passes) -> bool:
    x = trace.inputs
    if not isinstance(x, Tensor) or not x.is_floating_point() or (x.dim() > 1 and len(x) != 1):
        return False
    parameters = [p for layer in trace.layers for p in layer.module.parameters()]
    tensors = [x, *(layer.activation for layer in trace.layers), *parameters]
    return not any(y.is_complex() for y in tensors) and sum(y.numel() for y in tensors) <= MOST


class Paper:
    """Lines for the forward pass, the cost and the backward pass.

    The input is x, the output of layer k is yk, its weights and biases are wk and bk, the targets are t, and
    indices count from 1. A formula is written only if its numbers come to what was computed.
    """

    def __init__(self, trace: Passes, digits: int) -> None:
        self.trace, self.digits = trace, digits
        cost = trace.cost.ours
        self.cost = number("L", 0.0 if cost is None else cost.item(), digits)
        self.signals: list[tuple[str, Tensor]] = [("x", trace.inputs)]
        # For each layer the letter of what it was called with, and whether that came straight from a layer.
        self.inputs: list[tuple[str, bool]] = []
        for index, layer in enumerate(trace.layers, 1):
            self.inputs.append(self._origin(layer.input, f"u{index}"))
            self.signals.append((f"y{index}", layer.activation))

    def lines(self) -> Iterator[str]:
        """Everything, in order."""
        numbered = list(enumerate(self.trace.layers, 1))
        yield "Forward pass"
        yield from (f"  {x.symbols} = {self._plain(x)}" for x in self._vector("x", self.trace.inputs))
        for index, layer in numbered:
            yield f"  layer {index}, {layer.kind} {layer.title!r}"
            yield from self._forward(index, layer)
        yield from ("", "Cost", *self._cost(), "", "Backward pass")
        for index, layer in reversed(numbered):
            yield f"  layer {index}, {layer.kind} {layer.title!r}"
            yield from self._reached(index, layer.error)
            yield from self._backward(index, layer)

    def _forward(self, index: int, layer: Layer) -> Iterator[str]:
        letter, straight = self.inputs[index - 1]
        y = self._vector(f"y{index}", layer.activation)
        u = [] if layer.input is None else self._vector(letter, layer.input)
        if not straight:
            yield from (f"    {x.symbols} = {self._plain(x)}, computed between the layers" for x in u)
        formulas = _attempt(lambda: self._outputs(index, layer, u))
        for i, value in enumerate(y):
            formula = formulas[i] if _agree(formulas, y) else None
            yield from self._written(value, formula, f"{layer.kind}({letter})_{i + 1}")

    def _outputs(self, index: int, layer: Layer, u: list[Term]) -> list[Term]:
        if layer.kind in ELEMENTWISE:
            return [ELEMENTWISE[layer.kind][0](x) for x in u]
        if layer.kind != "Linear":
            return []
        weights, biases = self._parameters(index, layer)
        products = [[w * x for w, x in zip(row, u, strict=True)] for row in weights]
        return [total(terms + biases[i : i + 1]) for i, terms in enumerate(products)]

    def _cost(self) -> Iterator[str]:
        formula, errors = self._loss() or (None, [])
        yield from (f"  {t.symbols} = {self._plain(t)}" for t in self._targets())
        name = f"{name_of(self.trace.loss)}({self.signals[-1][0]}, t)"
        yield from self._written(self.cost, formula, name, "  ", self.trace.cost.autograd)
        for error, found in zip(self._errors(len(self.trace.layers)), errors, strict=False):
            yield from self._written(error, found, "", "  ")

    def _loss(self) -> tuple[Term, list[Term]] | None:
        """The formula of the cost and those of the output's errors, if they are known."""
        loss, (letter, output) = LOSSES.get(name_of(self.trace.loss)), self.signals[-1]
        y, errors = self._vector(letter, output), self._errors(len(self.trace.layers))
        terms = _attempt(lambda: loss(y, self._targets())) if loss else []
        for count in (len(y), 1):
            mean = [term / count if count > 1 else term for term in terms]
            if _agree(mean, [self.cost, *errors]):
                return mean[0], mean[1:]
        return None

    def _reached(self, index: int, error: Comparison) -> Iterator[str]:
        if error.ours is None:
            yield "    no error reaches it"
            return
        for term, other in zip(self._errors(index), _flat(error.autograd), strict=False):
            yield f"    {term.symbols} = {self._plain(term)}{self._beside(other)}"

    def _backward(self, index: int, layer: Layer) -> Iterator[str]:
        if layer.error.ours is None:
            return
        (letter, straight), d = self.inputs[index - 1], self._errors(index)
        u = [] if layer.input is None else self._vector(letter, layer.input)
        known = layer.kind == "Linear"
        yield from self._gradients(index, layer, [[e * x for x in u] for e in d] if known else [], d)
        if letter == "x":
            return
        passed = _attempt(lambda: self._pulled_back(index, layer, u, d))
        yield from self._passed(letter, straight, passed, layer.kind)

    def _pulled_back(self, index: int, layer: Layer, u: list[Term], d: list[Term]) -> list[Term]:
        if layer.kind in ELEMENTWISE:
            slope, y = ELEMENTWISE[layer.kind][1], self._vector(f"y{index}", layer.activation)
            return [e * slope(x, value) for e, x, value in zip(d, u, y, strict=True)]
        if layer.kind != "Linear":
            return []
        weights, _ = self._parameters(index, layer)
        return [total([row[j] * e for row, e in zip(weights, d, strict=True)]) for j in range(len(u))]

    def _passed(self, letter: str, straight: bool, passed: list[Term], kind: str) -> Iterator[str]:
        """The error of what the layer was called with."""
        shared = [name for name, _ in self.inputs].count(letter) > 1 or letter == self.signals[-1][0]
        error = self._errors(int(letter[1:])) if straight else []
        if straight and not shared and not _agree(passed, error):
            yield from (f"    {e.symbols} = {self._plain(e)}, by the rule of {kind}" for e in error)
            return
        note = ", by this layer alone" if shared else ""
        for i, term in enumerate(passed):
            value = number(f"dL/d{letter}_{i + 1}", term.value, self.digits)
            yield from self._written(value, term, "", note=note)

    def _gradients(
        self, index: int, layer: Layer, products: list[list[Term]], errors: list[Term]
    ) -> Iterator[str]:
        """The gradients of the layer's own parameters, autograd's beside them."""
        own = {"weight": [term for row in products for term in row], "bias": errors}
        for name, gradient in layer.gradients.items():
            short = name.rpartition(".")[2]
            symbol = f"dL/d{short[0] if short in own else short}{index}"
            if gradient.ours is None:
                yield f"    {symbol}: the cost does not depend on {name}"
                continue
            values = self._matrix(symbol, gradient.ours)
            formulas = own.get(short, [])
            known = formulas if _agree(formulas, values) else [None] * len(values)
            for value, formula, other in zip(values, known, _flat(gradient.autograd), strict=True):
                yield from self._written(value, formula, f"gradient of {name}", "    ", other)

    def _written(
        self,
        value: Term,
        formula: Term | None,
        otherwise: str,
        indent: str = "    ",
        other: Any = None,
        note: str = "",
    ) -> Iterator[str]:
        """A number with its formula in letters and in numbers, or if that is not known with what made it."""
        result = f"{self._plain(value)}{note}{self._beside(other)}"
        if formula is None:
            yield f"{indent}{value.symbols} = {otherwise} = {result}"
            return
        yield f"{indent}{value.symbols} = {formula.symbols}"
        numbers = "" if formula.numbers.strip("()") == self._plain(value) else f"{formula.numbers} = "
        yield f"{indent}{' ' * len(value.symbols)} = {numbers}{result}"

    def _parameters(self, index: int, layer: Layer) -> tuple[list[list[Term]], list[Term]]:
        module: Any = layer.module
        weight, bias = module.weight, module.bias
        flat = self._matrix(f"w{index}", weight)
        rows = [flat[start : start + weight.shape[1]] for start in range(0, len(flat), weight.shape[1])]
        return rows, [] if bias is None else self._vector(f"b{index}", bias)

    def _errors(self, index: int) -> list[Term]:
        error = self.trace.layers[index - 1].error.ours
        return [] if error is None else self._vector(f"dL/dy{index}", error)

    def _targets(self) -> list[Term]:
        t = self.trace.targets
        values = t.flatten() if isinstance(t, Tensor) else torch.as_tensor([])
        return self._vector("t", values) if values.numel() > 1 else self._vector("t", values, indexed=False)

    def _vector(self, letter: str, tensor: Tensor, indexed: bool = True) -> list[Term]:
        values = tensor.detach().flatten().tolist()
        names = [f"{letter}_{i}" if indexed else letter for i in range(1, len(values) + 1)]
        return [number(name, value, self.digits) for name, value in zip(names, values, strict=True)]

    def _matrix(self, letter: str, tensor: Tensor) -> list[Term]:
        """The elements row by row, with an index for each dimension."""
        places = [""]
        for size in tensor.shape:
            comma = "," if max(tensor.shape) > 9 else ""
            places = [f"{p}{comma if p else ''}{i}" for p in places for i in range(1, size + 1)]
        values = tensor.detach().flatten().tolist()
        return [number(f"{letter}_{p}", v, self.digits) for p, v in zip(places, values, strict=True)]

    def _origin(self, tensor: Tensor | None, otherwise: str) -> tuple[str, bool]:
        values = None if tensor is None else tensor.flatten()
        for letter, signal in reversed(self.signals):
            if values is not None and torch.equal(values, signal.detach().flatten()):
                return letter, True
        return otherwise, False

    def _plain(self, term: Term) -> str:
        return f"{term.value:.{self.digits}g}"

    def _beside(self, other: Any) -> str:
        return "" if other is None else f"    autograd {float(other):.{self.digits}g}"


def _attempt(formulas: Callable[[], list[Term]]) -> list[Term]:
    """Formulas, or none where numbers leave the range in which a formula can be computed as it is written."""
    with suppress(ArithmeticError, ValueError, IndexError):
        return formulas()
    return []


def _flat(tensor: Tensor | None) -> list[Any]:
    return [] if tensor is None else tensor.flatten().tolist()


def _agree(formulas: list[Term], values: list[Term]) -> bool:
    """Whether the formulas come to these values, but for rounding."""
    if len(formulas) != len(values):
        return False
    scale = max((abs(value.value) for value in values), default=0.0)
    pairs = zip(formulas, values, strict=True)
    return all(abs(formula.value - value.value) <= RELATIVE * scale + 1e-30 for formula, value in pairs)
