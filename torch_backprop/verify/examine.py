"""Holds one candidate to every probe on every sample, and turns evidence into findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from . import probes  # noqa: F401  (fills the table)
from .faults import CRASH, FAULTS, WRONG
from .finding import Finding
from .outcome import random
from .probe import PROBES, Probe
from .sample import Sample
from .samples import derived
from .settings import kept
from .shrink import smallest
from .snippet import snippet
from .trial import Evidence, Trial


@dataclass(frozen=True)
class Step:
    """One probe on one sample."""

    probe: Probe
    sample: Sample


def plan(trial: Trial, quick: bool, compile: bool) -> list[Step]:
    """Every step, those on the sample as given first."""
    chosen = [p for p in PROBES if (p.quick or not quick) and (compile or not p.compiles)]
    steps = [Step(probe, trial.given) for probe in chosen]
    samples = derived(trial.given, trial.candidate.module, quick)
    return steps + [Step(probe, sample) for sample in samples for probe in chosen if probe.every]


def examine(
    trial: Trial,
    steps: list[Step],
    tell: Callable[[int], None],
    found: Iterable[str] = (),
) -> Iterator[Finding]:
    """Takes the steps in order.

    Args:
        trial: the candidate on the sample as given.
        steps: what :func:`plan` planned.
        tell: hears the number of each step before it is taken.
        found: classes of fault that are known already.
    """
    sound = True
    known: set[str] = set(found)
    for number, step in enumerate(steps):
        tell(number)
        pointless = not sound and (step.probe.sound or step.sample is not trial.given)
        if pointless or (step.sample is not trial.given and step.sample.fault in known):
            continue
        for finding in look(trial.on(step.sample), step.probe):
            if step.sample is trial.given and finding.verdict in (WRONG, CRASH):
                sound = sound and step.probe.name != "numbers"
            if finding.fault not in known:
                known.add(finding.fault)
                yield finding


def look(trial: Trial, probe: Probe) -> Iterator[Finding]:
    """The findings of one probe on one sample; none if the reference refuses the sample."""
    with kept():
        if trial.truth(random).error is not None:
            return
        try:
            seen = list(probe.look(trial))
        except Exception as error:
            trial.note(f"{probe.name} could not look at the sample {trial.sample.name}: {error!r}")
            return
        for evidence in seen:
            yield _finding(trial, probe, evidence)


def _finding(trial: Trial, probe: Probe, evidence: Evidence) -> Finding:
    trial, evidence = smallest(trial, probe, evidence)
    reference = trial.truth_of.target if trial.truth_of.judges_forward else None
    script = snippet(trial.candidate, reference, trial.sample, probe.recipe, evidence.expected)
    verdict = FAULTS[evidence.fault].verdict
    sample = str(trial.sample)
    return Finding(evidence.fault, verdict, probe.name, *evidence[1:], sample=sample, snippet=script)
