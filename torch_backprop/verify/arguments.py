"""Bad input: an exception that says which argument, and what to pass instead."""

from __future__ import annotations

import torch

from .outcome import Outcome, run
from .sample import Sample, describe
from .target import Target
from .truth import works_in_place


def accepted(candidate: Target, reference: Target | None, sample: Sample) -> tuple[Sample, list[Outcome]]:
    """The sample in float64, or as it was given if that is refused; what each makes of it, candidate first.

    Raises:
        ValueError: the candidate or the reference refuses the inputs in either dtype.
    """
    targets = [candidate] if reference is None else [candidate, reference]
    for taken in (sample.to(torch.float64), sample):
        found = [run(target, taken) for target in targets]
        if not any(map(_refuses, found)):
            return taken, found
    worst = -1 if _refuses(found[-1]) else 0
    role = "candidate" if targets[worst] is candidate else "reference"
    words = f"the {role} {targets[worst].name} refuses {sample}; its {found[worst].words}"
    raise ValueError(f"inputs: {words}")


def same_parameters(candidate: Target, reference: Target | None) -> None:
    """A reference that is a module computes with the candidate's parameters.

    Raises:
        ValueError: it has others.
    """
    if reference is None or reference.module is None:
        return
    ours = {} if candidate.module is None else _shapes(candidate.module)
    theirs = _shapes(reference.module)
    if ours != theirs:
        raise ValueError(
            f"reference: {reference.name} has the parameters {theirs}, the candidate {ours}; "
            "build both with the same options"
        )


def same_structure(ours: Outcome, theirs: Outcome, reference: str) -> None:
    """Candidate and reference return as many tensors.

    Raises:
        ValueError: they do not.
    """
    if ours.stage != "forward" and len(ours.outputs) != len(theirs.outputs):
        raise ValueError(
            f"reference: {reference} returns {_listed(theirs)}, the candidate {_listed(ours)}; "
            "pass a reference with the candidate's outputs"
        )


def _refuses(found: Outcome) -> bool:
    return found.stage == "forward" and not works_in_place(found)


def _shapes(module: torch.nn.Module) -> dict[str, str]:
    return {name: describe(x).split()[0] for name, x in module.state_dict().items()}


def _listed(outcome: Outcome) -> str:
    return f"{len(outcome.outputs)} tensors ({', '.join(map(describe, outcome.outputs))})"
