"""Bad input: an exception that says which argument, and what to pass instead."""

from __future__ import annotations

import torch

from .outcome import Outcome, run
from .sample import Sample, describe
from .target import Target


def accepted(candidate: Target, reference: Target | None, sample: Sample) -> Sample:
    """The sample in float64, or as it was given where the candidate takes no float64.

    Raises:
        ValueError: the candidate or the reference refuses the inputs in either dtype.
    """
    wide = sample.to(torch.float64)
    for target, role in ((reference, "reference"), (candidate, "candidate")):
        if target is None:
            continue
        if not _refuses(target, wide):
            sample = wide if role == "reference" else sample
            continue
        if _refuses(target, sample):
            words = run(target, sample).words
            raise ValueError(f"inputs: the {role} {target.name} refuses {sample}; its {words}")
    return sample if _refuses(candidate, wide) else wide


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


def same_structure(candidate: Target, reference: Target, sample: Sample) -> None:
    """Both return as many tensors.

    Raises:
        ValueError: they do not.
    """
    ours, theirs = (run(target, sample) for target in (candidate, reference))
    if ours.stage != "forward" and len(ours.outputs) != len(theirs.outputs):
        raise ValueError(
            f"reference: {reference.name} returns {_listed(theirs)}, the candidate {_listed(ours)}; "
            "pass a reference with the candidate's outputs"
        )


def _refuses(target: Target, sample: Sample) -> bool:
    found = run(target, sample)
    return found.stage == "forward" and "a leaf Variable that requires grad" not in str(found.error)


def _shapes(module: torch.nn.Module) -> dict[str, str]:
    return {name: describe(x).split()[0] for name, x in module.state_dict().items()}


def _listed(outcome: Outcome) -> str:
    return f"{len(outcome.outputs)} tensors ({', '.join(map(describe, outcome.outputs))})"
