"""Holds one candidate to every probe on every sample, and turns evidence into findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from . import probes  # noqa: F401  (fills the table)
from .differences import FEW, MANY
from .faults import CRASH, FAULTS, WRONG
from .finding import Finding
from .outcome import random
from .probe import PROBES, Probe
from .sample import Sample
from .samples import derived
from .settings import kept
from .shrink import smallest
from .snippet import snippet
from .stray import strays
from .trial import Evidence, Trial


@dataclass(frozen=True)
class Step:
    """One probe on one sample; ``spare``: left out where enough has been spent."""

    probe: Probe
    sample: Sample
    spare: bool = False


@dataclass(frozen=True)
class Choice:
    """Which steps to take.

    Attributes:
        quick: only those that find most.
        compile: compile, too.
        tiny: take samples with inputs far smaller than 1, too.
        probes: the names of the only probes to look; none: all.
        samples: the names of the only samples to look at; none: all.
    """

    quick: bool = False
    compile: bool = True
    tiny: bool = True
    probes: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    def takes(self, probe: Probe) -> bool:
        """Whether the probe looks; one that is named always does."""
        if self.probes:
            return probe.name in self.probes
        return (probe.quick or not self.quick) and ((self.compile and not self.quick) or not probe.compiles)


def plan(trial: Trial, choice: Choice) -> list[Step]:
    """Every step, those on the sample as given first, the numbers before what follows from them.

    Raises:
        ValueError: a sample is named that is not derived from the given one.
    """
    chosen = sorted(filter(choice.takes, PROBES), key=lambda probe: probe.name != "numbers")
    if choice.quick and not choice.probes:
        rest = ", ".join(probe.name for probe in PROBES if not choice.takes(probe))
        trial.note(f"quick: most samples, and the probes {rest}, were left to the default check")
    samples = [trial.given]
    if trial.truth_of.numeric:
        sizes = {name: trial.given.tensors[name].numel() for name in trial.given.leaves}
        large = ", ".join(f"{name} ({size})" for name, size in sizes.items() if size > MANY)
        if large:
            trial.note(f"differences were taken by {MANY} elements of {large}: the others were not judged")
        trial.note(
            f"on other samples than the given one, differences were taken by {FEW} elements of a tensor"
        )
    if trial.truth_of.numeric and trial.truth_of.judges_forward:
        # each would cost hundreds of calls
        trial.note("the reference is wrong: only the sample as given was looked at")
    else:
        others = derived(trial.given, trial.candidate.module, choice.quick)
        # at an infinity a difference is 0 or not a number, whatever the derivative
        samples += [sample for sample in others if not trial.truth_of.numeric or sample.finite]
    if not choice.tiny:
        trial.note("inputs far smaller than 1 were not judged")
        samples = [sample for sample in samples if sample is trial.given or not sample.tiny]
    if choice.samples:
        only("samples", choice.samples, [sample.name for sample in samples])
        samples = [sample for sample in samples if sample.name in choice.samples]
    pairs = [(p, sample) for sample in samples for p in chosen if p.every or sample is trial.given]
    if choice.probes or choice.samples:
        return [Step(*pair) for pair in pairs]
    if choice.quick:
        pairs.sort(key=lambda pair: pair[0].dear)
    return [
        Step(probe, sample, (choice.quick and probe.dear) or sample is not trial.given)
        for probe, sample in pairs
    ]


def only(argument: str, names: tuple[str, ...], known: list[str]) -> None:
    """Every name is one of those known.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"{argument}: {name!r} is none of {', '.join(dict.fromkeys(known))}")


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
    current = trial
    for number, step in enumerate(steps):
        if step.spare and trial.overspent():
            trial.note(f"a call is expensive: left out were {_named(trial, steps[number:])}")
            return
        tell(number)
        pointless = not sound and (step.probe.sound or step.sample is not trial.given)
        if pointless or (step.sample is not trial.given and step.sample.fault in known):
            continue
        # what one probe has run on a sample, the next need not run again
        if current.sample is not step.sample:
            current = trial if step.sample is trial.given else trial.on(step.sample)
        for finding in look(current, step.probe):
            if step.sample is trial.given and finding.verdict in (WRONG, CRASH):
                sound = sound and step.probe.name != "numbers"
            if finding.fault not in known:
                known.add(finding.fault)
                yield finding


def _named(trial: Trial, steps: list[Step]) -> str:
    others = dict.fromkeys(step.sample.name for step in steps if step.sample is not trial.given)
    looks = dict.fromkeys(step.probe.name for step in steps if step.sample is trial.given)
    each = (("samples", others), ("probes", looks))
    return "; ".join(f"the {what} {', '.join(names)}" for what, names in each if names)


def look(trial: Trial, probe: Probe) -> Iterator[Finding]:
    """The findings of one probe on one sample; none if the reference refuses the sample."""
    with kept():
        if strays(trial):
            return
        if trial.truth(random).error is not None:
            yield from _without_truth(trial, probe) if trial.sample is trial.given else ()
            return
        try:
            seen = list(probe.look(trial))
        except Exception as error:
            trial.note(f"{probe.name} could not look at the sample {trial.sample.name}: {error!r}")
            return
        for evidence in seen:
            yield _finding(trial, probe, evidence)


def _without_truth(trial: Trial, probe: Probe) -> Iterator[Finding]:
    """What can be said of the sample as given where the truth, which took it at first, does not."""
    trial.note(f"nothing was judged: there is no truth for the sample as given; {trial.truth(random).words}")
    seen = trial.seen()
    if seen.error is not None:
        words = "another call returned, this one did not"
        fault = FAULTS[f"{seen.stage}-crash"]
        script = snippet(trial.candidate, None, trial.given, probe.name, trial.sample.name)
        sample = str(trial.sample)
        yield Finding(fault.name, fault.verdict, probe.name, seen.words, "it returns", words, sample, script)


def _finding(trial: Trial, probe: Probe, evidence: Evidence) -> Finding:
    name = trial.sample.name
    trial, evidence = smallest(trial, probe, evidence)
    reference = trial.truth_of.target if trial.truth_of.judges_forward else None
    script = snippet(trial.candidate, reference, trial.given, probe.name, name)
    verdict = FAULTS[evidence.fault].verdict
    sample = str(trial.sample)
    return Finding(evidence.fault, verdict, probe.name, *evidence[1:], sample=sample, snippet=script)
