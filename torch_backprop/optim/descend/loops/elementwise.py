"""Elementwise operators as C expressions; a row of a table is an operator of ATen."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch

from torch_backprop.optim.descend.loops.program import Index, Program, Value, cast, spread

aten: Any = torch.ops.aten

# In the dtype of the result; {f} is the suffix of C's functions of a float.
ARITHMETIC: dict[Any, str] = {
    aten.add.Tensor: "({0} + {1})",
    aten.add.Scalar: "({0} + {1})",
    aten.sub.Tensor: "({0} - {1})",
    aten.sub.Scalar: "({0} - {1})",
    aten.rsub.Scalar: "({1} - {0})",
    aten.mul.Tensor: "({0} * {1})",
    aten.mul.Scalar: "({0} * {1})",
    aten.div.Tensor: "({0} / {1})",
    aten.div.Scalar: "({0} / {1})",
    aten.neg.default: "(-{0})",
    aten.abs.default: "fabs{f}({0})",
    aten.exp.default: "exp{f}({0})",
    aten.expm1.default: "expm1{f}({0})",
    aten.log.default: "log{f}({0})",
    aten.log1p.default: "log1p{f}({0})",
    aten.sqrt.default: "sqrt{f}({0})",
    aten.rsqrt.default: "(1 / sqrt{f}({0}))",
    aten.reciprocal.default: "(1 / {0})",
    aten.sin.default: "sin{f}({0})",
    aten.cos.default: "cos{f}({0})",
    aten.tanh.default: "tanh{f}({0})",
    aten.erf.default: "erf{f}({0})",
    aten.sigmoid.default: "(1 / (1 + exp{f}(-{0})))",
    aten.pow.Tensor_Tensor: "pow{f}({0}, {1})",
    # With x != x for what is not a number, which torch hands on.
    aten.relu.default: "({0} < 0 ? 0 : {0})",
    aten.sign.default: "(({0} > 0) - ({0} < 0))",
    aten.maximum.default: "({0} != {0} || {0} > {1} ? {0} : {1})",
    aten.minimum.default: "({0} != {0} || {0} < {1} ? {0} : {1})",
    aten.logical_and.default: "({0} && {1})",
    aten.logical_or.default: "({0} || {1})",
    aten.logical_not.default: "(!{0})",
    aten.bitwise_and.Tensor: "({0} & {1})",
    aten.bitwise_or.Tensor: "({0} | {1})",
}
# In the common dtype of the operands.
COMPARISON: dict[Any, str] = {
    getattr(getattr(aten, name), kind): f"({{0}} {sign} {{1}})"
    for name, sign in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items()
    for kind in ("Tensor", "Scalar")
}


def literal(number: float, dtype: torch.dtype) -> str:
    """Return a number in C."""
    if not dtype.is_floating_point:
        return str(int(number))
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    return f"{float(number)!r}{'f' if dtype == torch.float32 else ''}"


def constant(number: float, dtype: torch.dtype, shape: tuple[int, ...] = ()) -> Value:
    """Return an array that has one number everywhere."""
    return Value(shape, dtype, lambda _: literal(number, dtype))


def elementwise(
    program: Program, form: str, dtype: torch.dtype, operands: list[Any], among: torch.dtype | None = None
) -> Value:
    """Return the value of an expression of operands, arrays or numbers, in their dtype `among`."""
    among = among or dtype
    values = [cast(each, among) if isinstance(each, Value) else constant(each, among) for each in operands]
    # Text that is repeated would double with each operator in a chain.
    repeated = [form.count(f"{{{place}}}") > 1 for place in range(len(values))]
    values = [
        program.settle(value) if again and value.shape else value
        for value, again in zip(values, repeated, strict=True)
    ]
    shape = tuple(torch.broadcast_shapes(*(value.shape for value in values)))
    values = [spread(value, shape) for value in values]
    suffix = "f" if among == torch.float32 else ""

    def at(index: Index) -> str:
        return form.format(*(value.at(index) for value in values), f=suffix)

    return Value(shape, dtype, at)


def arithmetic(program: Program, target: Any, meta: Any, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """Return the value of an operator in `ARITHMETIC` or `COMPARISON`; `meta` is a tensor like its result."""
    args = list(args)
    if target in COMPARISON:
        dtypes = [each.dtype for each in args if isinstance(each, Value)]
        among = reduce(torch.promote_types, dtypes)
        if any(isinstance(each, float) for each in args) and not among.is_floating_point:
            among = torch.get_default_dtype()
        return elementwise(program, COMPARISON[target], torch.bool, args, among)
    form = ARITHMETIC[target]
    if kwargs.get("alpha", 1) != 1:
        form = form.replace("{1}", f"{literal(kwargs['alpha'], meta.dtype)} * {{1}}")
    return elementwise(program, form, meta.dtype, args)


def clamp(program: Program, meta: Any, x: Value, low: Any = None, high: Any = None) -> Value:
    """Return x within numbers that bound it."""
    for form, bound in (("({0} < {1} ? {1} : {0})", low), ("({0} > {1} ? {1} : {0})", high)):
        if bound is not None:
            x = elementwise(program, form, meta.dtype, [x, bound])
    return x


def power(program: Program, meta: Any, x: Value, exponent: float) -> Value:
    """Return x to the power of a number."""
    forms = {
        2: "({0} * {0})",
        3: "({0} * {0} * {0})",
        0.5: "sqrt{f}({0})",
        -0.5: "(1 / sqrt{f}({0}))",
        -1: "(1 / {0})",
    }
    if exponent in forms:
        return elementwise(program, forms[exponent], meta.dtype, [x])
    return elementwise(program, "pow{f}({0}, {1})", meta.dtype, [x, exponent])
