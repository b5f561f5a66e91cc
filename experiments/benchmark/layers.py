"""Time and memory of every layer against its built-in, interleaved in one process on one thread.

The time is that of forward and backward together; a ratio is of the two fastest of many runs. The bytes are
those held between the two passes: with every gradient needed, and with the parameters frozen.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from experiments.held import held_bytes
from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, Draw, LayerSpec

ELEMENTS = 1 << 20
RUNS = 5
"""Runs at the least; more while the time lasts."""


@dataclass(frozen=True)
class Held:
    """Bytes that a layer holds between its forward and its backward pass.

    Attributes:
        bytes: what the layer holds, its parameters apart.
        builtin_bytes: the same of the built-in.
        frozen_bytes: what the layer holds if its parameters are frozen.
        builtin_frozen_bytes: the same of the built-in.
    """

    bytes: int
    builtin_bytes: int
    frozen_bytes: int
    builtin_frozen_bytes: int

    @classmethod
    def of(cls, spec: LayerSpec, dtype: torch.dtype = torch.float32) -> "Held":
        """What a layer and its built-in hold on the layer's large case."""
        passes = _passes(spec, dtype)
        return cls(*(each.held(frozen) for frozen in (False, True) for each in passes))


@dataclass(frozen=True)
class Measurement:
    """One layer against its built-in.

    Attributes:
        layer: its name.
        case: what it was built and called with.
        milliseconds: the built-in's fastest forward and backward pass.
        time: the layer's over the built-in's.
        held: the bytes that both hold.
    """

    layer: str
    case: str
    milliseconds: float
    time: float
    held: Held

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Measurement":
        """The measurement that `row` has made plain."""
        return cls(**{**row, "held": Held(**row["held"])})

    def row(self) -> dict[str, Any]:
        """The measurement as JSON can hold it."""
        return asdict(self)


COLUMNS = ("layer", "case", "milliseconds", "time", *(field.name for field in fields(Held)))


def chosen(pattern: str) -> list[LayerSpec]:
    """The layers whose name fits a pattern such as ``Conv*``."""
    return [spec for spec in SPECS if fnmatchcase(spec.layer.__name__.lower(), pattern.lower())]


def measure(
    spec: LayerSpec, seconds: float, compiled: bool = False, dtype: torch.dtype = torch.float32
) -> Measurement:
    """Measures one layer for about as many seconds."""
    if compiled:
        torch._dynamo.reset()
    ours, builtin = fastest([each.both(compiled) for each in _passes(spec, dtype)], seconds)
    case = str(large(spec))
    return Measurement(spec.layer.__name__, case, builtin * 1e3, ours / builtin, Held.of(spec, dtype))


def large(spec: LayerSpec) -> Case:
    """The layer's large case, or the first one with more rows."""
    if spec.large is not None:
        return spec.large
    case = spec.cases[0]
    rows = math.ceil(ELEMENTS / max(math.prod(draw.shape[1:]) for draw in case.inputs))
    return replace(case, inputs=tuple(_with_rows(draw, rows) for draw in case.inputs))


def fastest(runs: list[Callable[[], None]], seconds: float) -> list[float]:
    """The least processor time of each, in turns, for about as many seconds."""
    for run in runs:
        run()
    best = [math.inf] * len(runs)
    start, count = time.perf_counter(), 0
    while count < RUNS or time.perf_counter() - start < seconds:
        for i, run in enumerate(runs):
            # of the processor, so that other processes on it do not count
            begun = time.process_time()
            run()
            best[i] = min(best[i], time.process_time() - begun)
        count += 1
    return best


class _Passes:
    """A module on its inputs, with cotangents ready."""

    def __init__(self, case: Case, kind: type[nn.Module], dtype: torch.dtype) -> None:
        self.module = case.called(case.build(kind, dtype))
        self.inputs = tuple(self._needed(x) for x in case.draw(dtype))
        self.inplace = bool(case.options.get("inplace"))
        self.call: Callable[..., Any] = self.module

    def held(self, frozen: bool) -> int:
        """Bytes held between the passes."""
        self.module.requires_grad_(not frozen)
        found = held_bytes(self._forward, self.module.parameters())
        self.module.requires_grad_(True)
        return found

    def both(self, compiled: bool) -> Callable[[], None]:
        """Forward and backward."""
        self.call = torch.compile(self.module) if compiled else self.module
        outputs = list(_differentiable(self._forward()))
        cotangents = [torch.randn_like(y) for y in outputs]
        leaves = [x for x in (*self.inputs, *self.module.parameters()) if x.requires_grad]

        def run() -> None:
            torch.autograd.grad(list(_differentiable(self._forward())), leaves, cotangents, allow_unused=True)

        return run

    def _forward(self) -> Any:
        return self.call(*(x.clone() if self.inplace else x for x in self.inputs))

    @staticmethod
    def _needed(x: Tensor) -> Tensor:
        return x.requires_grad_() if x.is_floating_point() else x


def _differentiable(output: Any) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            yield leaf


def _with_rows(draw: Draw, rows: int) -> Draw:
    return replace(draw, shape=(rows, *draw.shape[1:]))


def _passes(spec: LayerSpec, dtype: torch.dtype = torch.float32) -> list[_Passes]:
    torch.manual_seed(0)
    return [_Passes(large(spec), kind, dtype) for kind in (spec.layer, spec.reference)]


def ratios(held: Held) -> tuple[str, str]:
    """What is held over what the built-in holds, and the same with frozen parameters."""
    return _ratio(held.bytes, held.builtin_bytes), _ratio(held.frozen_bytes, held.builtin_frozen_bytes)


def _ratio(ours: int, builtin: int) -> str:
    if not builtin:
        return "0" if not ours else "inf"
    return f"{ours / builtin:.2f}"
