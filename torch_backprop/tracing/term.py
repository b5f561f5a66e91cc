"""Formulas that know how they are written with symbols, how with numbers, and what they come to."""

from __future__ import annotations

import math
from dataclasses import dataclass

SUM, PRODUCT, ATOM = range(3)
"""How tightly the outermost operation of a formula binds."""


@dataclass(frozen=True)
class Term:
    """A formula.

    Attributes:
        symbols: it, in letters.
        numbers: it, with the numbers in place of the letters.
        value: what it comes to.
        binding: of its outermost operation.

    >>> y, t = Term("y", "0.5", 0.5), Term("t", "(-1)", -1.0)
    >>> cost = (y - t) ** 2 / 2
    >>> cost.symbols, cost.numbers, cost.value
    ('(y - t)^2 / 2', '(0.5 - (-1))^2 / 2', 1.125)
    """

    symbols: str
    numbers: str
    value: float
    binding: int = ATOM

    def __add__(self, other: Term | float) -> Term:
        return _join(self, " + ", _term(other), SUM, self.value + _term(other).value)

    def __sub__(self, other: Term | float) -> Term:
        return _join(self, " - ", _wrapped(other, PRODUCT), SUM, self.value - _term(other).value)

    def __mul__(self, other: Term | float) -> Term:
        value = self.value * _term(other).value
        return _join(_wrapped(self, PRODUCT), "·", _wrapped(other, PRODUCT), PRODUCT, value)

    def __truediv__(self, other: Term | float) -> Term:
        value = self.value / _term(other).value
        return _join(_wrapped(self, PRODUCT), " / ", _wrapped(other, ATOM), PRODUCT, value)

    def __pow__(self, exponent: int) -> Term:
        base = _wrapped(self, ATOM)
        return Term(f"{base.symbols}^{exponent}", f"{base.numbers}^{exponent}", self.value**exponent)

    def __neg__(self) -> Term:
        term = _wrapped(self, PRODUCT)
        return Term(f"-{term.symbols}", f"-{term.numbers}", -self.value, SUM)

    def __radd__(self, other: float) -> Term:
        return _term(other) + self

    def __rsub__(self, other: float) -> Term:
        return _term(other) - self

    def __rmul__(self, other: float) -> Term:
        return _term(other) * self

    def __rtruediv__(self, other: float) -> Term:
        return _term(other) / self


def number(symbol: str, value: float, digits: int) -> Term:
    """A quantity, its number rounded to significant digits."""
    text = f"{value:.{digits}g}"
    return Term(symbol, f"({text})" if value < 0 else text, value)


def exp(x: Term) -> Term:
    """The exponential function."""
    power = _wrapped(x, ATOM)
    return Term(f"e^{power.symbols}", f"e^{power.numbers}", math.exp(x.value))


def log(x: Term) -> Term:
    """The natural logarithm."""
    return Term(f"log({x.symbols})", f"log({x.numbers})", math.log(x.value))


def tanh(x: Term) -> Term:
    """The hyperbolic tangent."""
    return Term(f"tanh({x.symbols})", f"tanh({x.numbers})", math.tanh(x.value))


def positive(x: Term) -> Term:
    """The larger of 0 and x."""
    return Term(f"max(0, {x.symbols})", f"max(0, {x.numbers})", max(0.0, x.value))


def is_positive(x: Term) -> Term:
    """1 where x is above 0, else 0."""
    return Term(f"[{x.symbols} > 0]", f"[{x.numbers} > 0]", float(x.value > 0))


def total(terms: list[Term]) -> Term:
    """The sum of at least one term."""
    first, *others = terms
    for term in others:
        first = first + term
    return first


def _term(x: Term | float) -> Term:
    return x if isinstance(x, Term) else Term(f"{x:g}", f"{x:g}", x)


def _wrapped(x: Term | float, binding: int) -> Term:
    """The same in parentheses, unless it binds at least so tightly."""
    x = _term(x)
    return x if x.binding >= binding else Term(f"({x.symbols})", f"({x.numbers})", x.value)


def _join(a: Term, sign: str, b: Term, binding: int, value: float) -> Term:
    return Term(f"{a.symbols}{sign}{b.symbols}", f"{a.numbers}{sign}{b.numbers}", value, binding)
