"""A probe: one small function that looks at a candidate in one way, and the table in which it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .trial import Evidence, Trial

Look = Callable[[Trial], Iterator[Evidence]]

PROBES: list[Probe] = []
"""Every probe, in the order in which they look."""


@dataclass(frozen=True)
class Probe:
    """What to look at, and on which samples.

    Attributes:
        name: the name under which findings are reported.
        look: yields evidence; none, if all is well.
        every: look at every sample, not at the given one alone.
        quick: take part in a quick check.
        dear: makes many calls for what it finds, and looks last in a quick check, if there is time.
        sound: look only if the gradient of the sample as given is right, else nothing new is learned.
        compiles: compiles, which takes seconds.
    """

    name: str
    look: Look
    every: bool = False
    quick: bool = True
    dear: bool = False
    sound: bool = False
    compiles: bool = False


def probe(
    every: bool = False,
    quick: bool = True,
    dear: bool = False,
    sound: bool = False,
    compiles: bool = False,
) -> Callable[[Look], Look]:
    """Enters a function into the table of probes."""

    def enter(look: Look) -> Look:
        PROBES.append(Probe(look.__name__, look, every, quick, dear, sound, compiles))
        return look

    return enter
