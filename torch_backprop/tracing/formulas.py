"""What layers and losses compute, and their derivatives, as one would write them for single numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch_backprop.tracing.term import Term, exp, is_positive, log, positive, tanh, total

Function = Callable[[Term], Term]
Derivative = Callable[[Term, Term], Term]


def sigmoid(x: Term) -> Term:
    """The logistic function."""
    return 1 / (1 + exp(-x))


ELEMENTWISE: dict[str, tuple[Function, Derivative]] = {
    "Sigmoid": (sigmoid, lambda x, y: y * (1 - y)),
    "Tanh": (tanh, lambda x, y: 1 - y**2),
    "ReLU": (positive, lambda x, y: is_positive(x)),
    "SiLU": (lambda x: x * sigmoid(x), lambda x, y: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "Softplus": (lambda x: log(1 + exp(x)), lambda x, y: sigmoid(x)),
    "LogSigmoid": (lambda x: -log(1 + exp(-x)), lambda x, y: 1 - sigmoid(x)),
}
"""By class: y = f(x), and dy/dx of x and y. What an option changes is found out by its numbers."""

Loss = Callable[[list[Term], list[Term]], list[Term]]
"""The cost of outputs y for targets t, and after it the derivative with respect to each y."""


def squares(y: list[Term], t: list[Term]) -> list[Term]:
    """The sum of squared errors."""
    pairs = list(zip(y, t, strict=True))
    return [total([(a - b) ** 2 for a, b in pairs]), *(2 * (a - b) for a, b in pairs)]


def cross_entropies(y: list[Term], t: list[Term]) -> list[Term]:
    """The sum of the binary cross-entropies of probabilities."""
    pairs = list(zip(y, t, strict=True))
    costs = [-(b * log(a) + (1 - b) * log(1 - a)) for a, b in pairs]
    return [total(costs), *((a - b) / (a * (1 - a)) for a, b in pairs)]


def logit_entropies(y: list[Term], t: list[Term]) -> list[Term]:
    """The sum of the binary cross-entropies of logits."""
    pairs = list(zip(y, t, strict=True))
    return [total([log(1 + exp(a)) - b * a for a, b in pairs]), *(sigmoid(a) - b for a, b in pairs)]


def class_entropy(y: list[Term], t: list[Term]) -> list[Term]:
    """The cross-entropy of a softmax and the class that is the only target."""
    (target,) = t
    powers = total([exp(a) for a in y])
    right = [int(index == target.value) for index in range(len(y))]
    shares = [exp(a) / powers - one if one else exp(a) / powers for a, one in zip(y, right, strict=True)]
    return [log(powers) - y[right.index(1)], *shares]


LOSSES: dict[str, Loss] = {
    "MSELoss": squares,
    "mse_loss": squares,
    "BCELoss": cross_entropies,
    "binary_cross_entropy": cross_entropies,
    "BCEWithLogitsLoss": logit_entropies,
    "binary_cross_entropy_with_logits": logit_entropies,
    "CrossEntropyLoss": class_entropy,
    "cross_entropy": class_entropy,
}
"""By class or function: the sum over the outputs, of which the cost may be the mean."""


def name_of(loss: Any) -> str:
    """The name of a loss's class, or of the function itself."""
    return getattr(loss, "__name__", type(loss).__name__)
