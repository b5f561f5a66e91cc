"""A finding: one fault of a candidate, as the verifier hands it back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One fault of a candidate.

    Attributes:
        fault: the class of fault, a name of :data:`torch_backprop.verify.faults.FAULTS`.
        verdict: wrong, crash, contract, precision or capability.
        probe: the probe that saw it.
        seen: what the candidate did.
        expected: what the reference does.
        diagnosis: the shape of the error, and the line to look for.
        sample: the smallest sample that shows it.
        snippet: a script that reproduces it.
    """

    fault: str
    verdict: str
    probe: str
    seen: str
    expected: str
    diagnosis: str
    sample: str
    snippet: str
