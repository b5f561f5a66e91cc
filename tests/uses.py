"""The uses of the layers on which mutants are tried, and the functions that run in their backward passes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property, partial
from types import CodeType, FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.mutation import Line, key
from tests.samples import sample
from torch_backprop import functional, layers
from torch_backprop.nn import SPECS
from torch_backprop.spec import Draw, case
from torch_backprop.verify.check import prepared
from torch_backprop.verify.engine import accumulate
from torch_backprop.verify.examine import Choice, Step, examine, plan
from torch_backprop.verify.outcome import forward, pull_back, random
from torch_backprop.verify.probe import PROBES
from torch_backprop.verify.sample import given
from torch_backprop.verify.settings import kept
from torch_backprop.verify.target import Target, target
from torch_backprop.verify.trial import Trial

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=torch.float64)
SIGNS = torch.tensor([1, -1, 1, -1])
OFFSETS = torch.tensor([0, 2, 6])
TARGETS = torch.tensor([1, 3, 2])
LENGTHS = torch.tensor([2, 1])
WEIGHTED = ((4, 3), (4, 3), Draw((4, 3), "unit"))

CALLS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    ("mse_loss", lambda f, x, t, w: f(x, t, weight=w), WEIGHTED),
    ("mse_loss", lambda f, x, t, w: f(x, t, weight=w, reduction="sum"), WEIGHTED),
    ("linear", lambda f, x, w: f(x, w), ((4, 3), (3,))),
    ("conv1d", lambda f, x, w: f(x, w, stride=2), ((2, 2, 7), (3, 2, 3))),
    ("linear", lambda f, x, w, b: f(x, w, b), ((2, 4, 3), (3,), ())),
    ("mse_loss", lambda f, x, t: f(x, t), ((4, 3), (3,))),
    ("mse_loss", lambda f, x, t: f(x, t), ((3,), (4, 3))),
    ("l1_loss", lambda f, x, t: f(x, t), ((4, 3), (3,))),
    ("mse_loss", lambda f, x, t, w: f(x, t, weight=w), ((3,), (4, 3), Draw((3,), "unit"))),
    ("cross_entropy", lambda f, x, t: f(x, t.byte(), WEIGHTS), ((6, 4), Draw((6,), "classes", 4))),
    ("l1_loss", lambda f, x, t, w: f(x, t, weight=w), WEIGHTED),
    (
        "cross_entropy",
        lambda f, x, t, w: f(x, t, w, label_smoothing=0.1),
        ((6, 4), Draw((6, 4), "probabilities"), Draw((4,), "unit")),
    ),
    (
        "cross_entropy",
        lambda f, x, t, w: f(x, t, w),
        ((2, 4, 3), Draw((2, 4, 3), "probabilities"), Draw((4,), "unit")),
    ),
    (
        "cross_entropy",
        lambda f, x, t, w: f(x, t, w, label_smoothing=0.1),
        ((2, 4, 3), Draw((2, 3), "classes", 4), WEIGHTS),
    ),
    (
        "embedding_bag",
        lambda f, k, w, s: f(k, w, OFFSETS, mode="sum", per_sample_weights=s, include_last_offset=True),
        (Draw((6,), "classes", 5), (5, 3), (6,)),
    ),
    ("adaptive_avg_pool2d", lambda f, x: f(x, (6, 5)), ((1, 32, 5),)),
    ("ctc_loss", lambda f, x: f(x, TARGETS, LENGTHS * 3, LENGTHS), ((6, 2, 4),)),
    ("cosine_embedding_loss", lambda f, x, y: f(x, y, SIGNS), ((4, 3), (1, 3))),
)
"""Calls that no layer makes, of functions of these names."""


def started(layer: torch.nn.Module, x: Tensor, *states: Tensor) -> Any:
    """A recurrent layer that is given its first states."""
    return layer(x, states)


CASES = {"LSTM": case((3, 2, 4), (1, 2, 3), (1, 2, 3), call=started, input_size=4, hidden_size=3)}
"""Cases of layers that their specifications do not have."""


class Use:
    """A layer or a function in use, beside the built-in, and the lines that run in its backward passes."""

    def __init__(self, ours: Target, builtin: Target, inputs: tuple[Any, ...]) -> None:
        self.targets, self.inputs = (ours, builtin), inputs
        self.lines = _running(ours, inputs)
        self.functions = frozenset(function for function, _ in self.lines)
        self._without: dict[bool, frozenset[str]] = {}

    @cached_property
    def trial(self) -> Trial:
        """Without a slip; it keeps what the built-in gives."""
        ours, builtin = self.targets
        with kept():
            trial = prepared(ours, builtin, given(self.inputs, ours.module), lambda words: None)
            trial.truth()
            return trial

    def numbers(self) -> list[Step]:
        """The first look."""
        return [Step(next(probe for probe in PROBES if probe.name == "numbers"), self.trial.given)]

    def steps(self, quick: bool) -> list[Step]:
        """Every look, but none that compiles."""
        return plan(self.trial, Choice(quick, compile=False))

    def faults(self, steps: list[Step]) -> Iterator[str]:
        """The classes of fault that are found, as they are found."""
        truths = {name: known for name, known in self.trial._known.items() if name[0] in ("truth", "moved")}
        with kept():
            for finding in examine(replace(self.trial, _known=truths), steps, lambda number: None):
                yield finding.fault

    def without(self, quick: bool) -> frozenset[str]:
        """What is found without a slip: capabilities."""
        if quick not in self._without:
            self._without[quick] = frozenset(self.faults(self.steps(quick)))
        return self._without[quick]


@cache
def uses() -> list[Use]:
    """Every case of every layer, and the calls; the simplest first."""
    return sorted((Use(*each) for each in _all()), key=lambda use: len(use.lines))


def _all() -> Iterator[tuple[Target, Target, tuple[Any, ...]]]:
    for spec in SPECS:
        for each in (*spec.cases, *filter(None, [CASES.get(spec.layer.__name__)])):
            built = (each.build(layer, torch.float64) for layer in (spec.layer, spec.reference))
            ours, builtin = map(each.called, built)
            yield target(ours), target(builtin), each.draw(torch.float64)
    for name, call, inputs in CALLS:
        ours, builtin = (partial(call, getattr(where, name)) for where in (functional, F))
        yield target(ours), target(builtin), sample(inputs)


def _running(ours: Target, inputs: tuple[Any, ...]) -> frozenset[Line]:
    """The lines of the layers that run in a first and in a second backward pass."""
    found: set[tuple[CodeType, int]] = set()

    def note(frame: FrameType, event: str, argument: Any) -> Any:
        if layers.__path__[0] not in frame.f_code.co_filename:
            return None
        found.add((frame.f_code, frame.f_lineno))
        return note

    for graph in (False, True):
        with kept():
            outputs, leaves, _ = forward(replace(ours, spare=True), given(inputs, ours.module))
            live = [i for i, y in enumerate(outputs) if y.requires_grad]
            sys.settrace(note)
            try:
                first = pull_back(outputs, leaves, live, create_graph=graph)
                onward = [g for g in first.values() if g is not None and g.requires_grad]
                if onward:
                    accumulate(onward, [random(g.detach()) for g in onward])
            except RuntimeError:  # no second derivative
                pass
            finally:
                sys.settrace(None)
    return frozenset((key(code), line) for code, line in found)
