"""What a check spends, in operations: the same on every machine, whatever else runs there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from .outcome import forward
from .spy import graph, nodes
from .target import Target
from .trial import Trial

QUICK, WHOLE = 7_000, 40_000
"""Operations after which a quick and a default check leave out what is spare: 0.2 and 1.2 s of one core."""
_CALL, _BY_HAND = 20, 6
"""What a call costs by itself, and a hand-written node, which is Python, where a built-in one costs 1."""
_DIFFERENCE, _PART = 2, 2
"""What one of the many calls for differences costs by itself; of both passes it makes the first half."""


@dataclass
class _Meter:
    """Counts calls, as a context in which they are made."""

    calls: int = 0

    def __call__(self) -> contextlib.AbstractContextManager[None]:
        self.calls += 1
        return contextlib.nullcontext()


def metered(trial: Trial, quick: bool) -> Trial:
    """The trial with a meter: it knows when calls of candidate and reference have cost enough."""
    budget = QUICK if quick else WHOLE
    targets = trial.candidate, trial.truth_of.target
    operations = [_operations(trial, target) for target in targets]
    each = _DIFFERENCE + operations[0] // _PART if trial.truth_of.numeric else _CALL + sum(operations)
    meter = _Meter()
    candidate, right = (target.within(meter) for target in targets)
    truth_of = replace(trial.truth_of, target=right)

    def overspent() -> bool:
        return meter.calls * each > budget

    return replace(trial, candidate=candidate, truth_of=truth_of, overspent=overspent)


def _operations(trial: Trial, target: Target) -> int:
    """The nodes of its graph; one that is written by hand counts as several."""
    try:
        outputs = trial.graph()[0] if target is trial.candidate else forward(target, trial.sample)[0]
    except Exception:  # whatever it is, the probes will say
        return 0
    return len(list(graph(outputs))) + _BY_HAND * len(list(nodes(outputs)))
