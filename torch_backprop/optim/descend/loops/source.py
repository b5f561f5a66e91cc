"""The text in C of a descent: a loop over examples around one step, whose state is updated in place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from torch_backprop.optim.descend.loops.elementwise import constant
from torch_backprop.optim.descend.loops.lowering import lower
from torch_backprop.optim.descend.loops.program import Program, Value, c_type, cast, dense, stored

HEADER = """\
#include <math.h>
#include <stdint.h>
#if defined __GLIBC__ && defined __x86_64__ && !defined __clang__
/* The C library has these for whole vectors. */
#define WHOLE __attribute__((simd("notinbranch")))
WHOLE float expf(float); WHOLE float logf(float); WHOLE float tanhf(float); WHOLE float erff(float);
WHOLE double exp(double); WHOLE double log(double); WHOLE double tanh(double); WHOLE double erf(double);
#endif
"""
FRAME = """\
/* Returns how many examples were done, up to one that cannot be, or whose cost is not finite. */
int64_t descend(int64_t examples, void **state, void **fixed, char *inputs, char *targets, double *rates,
                double *costs, char *scratch) {{
{declarations}
for (int64_t example = 0; example < examples; example++) {{
{pointers}
{body}
}}
return examples;
}}
"""


@dataclass(frozen=True)
class Source:
    """A program and what it needs.

    Attributes:
        text: of the program.
        scratch: bytes of memory for what lies in between.
        read: the constants that it reads from memory.
    """

    text: str
    scratch: int
    read: list[Tensor]


def write(
    graph: fx.Graph,
    state: Sequence[Tensor],
    fixed: Sequence[Tensor],
    constants: dict[fx.Node, Tensor],
    x: Tensor,
    t: Tensor,
    groups: int,
) -> Source:
    """Write the program of a graph from (*state, *fixed, x, t, *rates) to (cost, *state).

    Args:
        graph: one step on one example.
        state: what the step updates.
        fixed: what it reads.
        constants: nodes whose tensors are known; what of them is not written into the text is appended to
            `fixed` in this order.
        x: input of one example, with a dimension of 1 before it.
        t: target of one example, with a dimension of 1 before it.
        groups: the number of rates.

    Raises:
        Unknown: naming what in the graph has no translation.
    """
    program = Program()
    declarations: list[str] = []
    given = [
        _declared(declarations, f"{letter}{place}", tensor, f"{array}[{place}]")
        for letter, array, tensors in (("s", "state", state), ("f", "fixed", fixed))
        for place, tensor in enumerate(tensors)
    ]
    pointers: list[str] = []
    for name, array, tensor in (("x", "inputs", x), ("t", "targets", t)):
        value = _declared(pointers, name, tensor, f"{array} + example * {tensor.nbytes}")
        given.append(stored(name, value.dtype, value.shape, dense(value.shape)))
    given += [_rate(place, groups) for place in range(groups)]
    nodes = [node for node in graph.nodes if node.op == "placeholder"]
    values = dict(zip(nodes, given, strict=True))
    read: list[Tensor] = []
    for node, tensor in constants.items():
        # What the step holds may change, and what it makes may not.
        value = None if node.op == "get_attr" else known(tensor)
        if value is None:
            place = len(fixed) + len(read)
            value = _declared(declarations, f"f{place}", tensor, f"fixed[{place}]")
            read.append(tensor)
        values[node] = value
    cost, *new = lower(program, graph, values)
    _finish(program, cost, given[: len(state)], new)
    text = HEADER + FRAME.format(
        declarations="\n".join(declarations + program.arrays),
        pointers="\n".join(pointers),
        body="\n".join(program.lines),
    )
    return Source(text, program.size, read)


def known(tensor: Tensor) -> Value | None:
    """Return a tensor whose elements are all the same as text."""
    if not tensor.numel() or bool((tensor != tensor.flatten()[0]).any()):
        return None
    return constant(tensor.flatten()[0].item(), tensor.dtype, tuple(tensor.shape))


def _declared(lines: list[str], name: str, tensor: Tensor, pointer: str) -> Value:
    kind = c_type(tensor.dtype)
    lines.append(f"{kind} *restrict {name} = ({kind} *)({pointer});")
    return stored(name, tensor.dtype, tuple(tensor.shape), tensor.stride())


def _rate(place: int, groups: int) -> Value:
    return Value((), torch.float64, lambda _: f"rates[example * {groups} + {place}]")


def _finish(program: Program, cost: Value, state: list[Value], new: list[Value]) -> None:
    """Write the end of a step: the cost, and unless it is not finite the new state over the old one."""
    program.emit(f"costs[example] = {cast(cost, torch.float64).at(())};")
    program.emit("if (!isfinite(costs[example])) return example;")
    pairs = [
        # Where it reads another part of the state, or itself at another place, that may have been written.
        (old, value if _is_in_place(old, value) else program.copied(value))
        for old, value in zip(state, new, strict=True)
    ]
    for old, value in pairs:
        program.store(old, value)


def _is_in_place(old: Value, value: Value) -> bool:
    index = tuple(f"i{place}" for place in range(len(old.shape)))
    target, text = old.at(index), value.at(index)
    return set(re.findall(r"\bs\d+\[[^\]]*\]", text)) <= {target}
