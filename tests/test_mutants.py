"""The verifier finds a slip of the pen in this package's own backward passes, whatever file it is in."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests import uses as used
from tests.mutation import TILE, Line, Mutant, modules, mutants
from tests.uses import Use
from torch_backprop import layers
from torch_backprop.verify import examine
from torch_backprop.verify.examine import Step
from torch_backprop.verify.faults import FAULTS
from torch_backprop.verify.finding import Finding
from torch_backprop.verify.probe import Probe
from torch_backprop.verify.trial import Evidence, Trial

SAME_PATHS = "chooses between two formulas of the same number"
NO_GRAPH = "where this runs no graph is recorded"
ONLY_LAYOUT = "the numbers are the same, in other places of memory"

EQUIVALENT: dict[str, str] = {
    "smooth _softplus_into: x * beta detached": "it is only compared",
    "elementwise tiles: max(1, tensors[0].shape[0] * TILE // max(largest, 1)) -> 1": "only how tiles are cut",
    "linear _conj: saved.conj() -> saved": "torch differentiates no complex bilinear",
    "pointwise _gradient: 2 * TILE -> 2 / TILE": SAME_PATHS,
    "batch RunningNormRule: by_d * torch.rsqrt(widen(v) + ctx.eps) detached": NO_GRAPH,
    "moments standardized: x - x.mean(dims, keepdim=True) -> x.mean(dims, keepdim=True) - x": "for complex "
    "numbers, which torch does not normalize",
    "border BorderPadRule: grad_y.movedim(1, -1).contiguous() -> grad_y.movedim(1, -1)": ONLY_LAYOUT,
    "step in_layout: grad.mT.contiguous() -> grad.mT": ONLY_LAYOUT,
    "selection Selection: math.prod(sizes) - 1 -> math.prod(sizes) - 2": "only how many bits a place takes",
    "windows SlidingAxis: self.count * self.stride -> self.count / self.stride": SAME_PATHS,
    "direction Direction: known(self.x) -> self.x": "says to readers alone that it is not None",
    "interpolate Interpolation: min(length, math.ceil(2 * radius)) -> length": "more taps, whose weight is 0",
}
"""Mutants that change no number and no promise."""

NO_TRUTH = "torch has no second derivative to hold it to"
MISSED: dict[str, str] = {
    "pairwise slope: torch.where(y == 0, 1, y) -> y": "no probe takes a second derivative at a length of 0",
    "bag EmbeddingBagRule: bags.coefficient * products detached": NO_TRUTH,
    "multi_margin _pull: slopes(widen(rows), t) * u detached": NO_TRUTH,
}
"""Mutants that are not found and should be."""

EXPLAINED = EQUIVALENT | MISSED

FEW, QUICK, DEFAULT = 30, 10, 6
"""Uses whose numbers are looked at, and uses that get a quick check, and a default one, if they are right."""


def in_short(trial: Trial, probe: Probe, evidence: Evidence) -> Finding:
    """A finding without its smallest sample and its snippet, for which nobody asks here."""
    return Finding(evidence.fault, FAULTS[evidence.fault].verdict, probe.name, *evidence[1:], "", "")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Tiles are small, so that samples of tens of elements take the path of large tensors too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine, "_finding", in_short)
        for name in modules():
            module = import_module(f"{layers.__name__}.{name}")
            if hasattr(module, "TILE"):
                patch.setattr(module, "TILE", TILE)
        yield


def running() -> set[Line]:
    return {line for use in used.uses() for line in use.lines}


def concerned(mutant: Mutant, most: int) -> list[Use]:
    """So many uses, simple and intricate, that run the line; then others that run its function."""
    runs = [use for use in used.uses() if mutant.runs(use.functions)]
    lines = [use for use in runs if mutant.is_in(use.lines)]
    others = [use for use in runs if use not in lines]
    return [use for each in (lines, others) for use in each[:: -(-len(each) // most) or 1]]


def found(mutant: Mutant) -> bool:
    """Whether it is found by the cheapest look that does; what is explained gets the cheap ones alone."""
    for use in concerned(mutant, FEW):
        if shown(mutant, use, use.numbers(), frozenset()):
            return True
    explained = str(mutant) in EXPLAINED
    for quick, most in ((True, 1),) if explained else ((True, QUICK), (False, DEFAULT)):
        for use in concerned(mutant, most):
            if shown(mutant, use, use.steps(quick), use.without(quick)):
                return True
    return False


def shown(mutant: Mutant, use: Use, steps: list[Step], known: frozenset[str]) -> bool:
    """Whether the steps find in the use what they do not find without the slip."""
    with mutant.made():
        return any(fault not in known for fault in use.faults(steps))


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("module", modules())
def test_every_mutant_is_found_or_explained(module: str):
    survivors = {str(mutant) for mutant in mutants(module, running()) if not found(mutant)}
    assert survivors == {name for name in EXPLAINED if name.startswith(module.rpartition(".")[2] + " ")}


def test_98_per_cent_of_at_least_200_mutants_are_found():
    names = {str(mutant) for module in modules() for mutant in mutants(module, running())}
    real = names - EQUIVALENT.keys()
    assert len(real) >= 200
    assert len(real - MISSED.keys()) >= 0.98 * len(real)
