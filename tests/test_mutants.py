"""The verifier finds a slip of the pen in this package's own backward passes."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.mutation import TILE, Mutant, mutants, source
from tests.samples import sample
from torch_backprop.layers import elementwise
from torch_backprop.spec import Draw
from torch_backprop.verify import check

MODULES = (
    "activation.smooth",
    "activation.gated",
    "linear",
    "activation.parametric",
    "activation.piecewise",
    "dropout",
    "softmax",
    "loss.cross_entropy",
    "loss.binary",
    "loss.regression",
    "loss.likelihood",
    "loss.reduction",
    "loss.samples",
    "elementwise",
    "bits",
)

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=torch.float64)
WEIGHTED = ((4, 3), (4, 3), Draw((4, 3), "unit"))

CALLS: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...] = (
    ("mse_loss", lambda f, x, t, w: f(x, t, weight=w), WEIGHTED),
    ("mse_loss", lambda f, x, t, w: f(x, t, weight=w, reduction="sum"), WEIGHTED),
    ("linear", lambda f, x, w: f(x, w), ((4, 3), (3,))),
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
)
"""Calls that no layer makes, of functions of these names."""

SAME_PATHS = "chooses between two formulas of the same number"
ZERO_OR_NONE = "its second derivative is zero either way, given or left out"
ADDS_ZERO = "what the link adds is zero"
SAME_CUT = "how tensors are cut into tiles changes no number"
CONSTANT = "nothing in it has a gradient: class weights, indices, masks"

LINKED = "link.sum() if torch.is_grad_enabled() else {}"
TIED = "chosen + 0 * torch.sign(x)"
RECORDED = "torch.is_grad_enabled() and x.requires_grad"
TILED = "tensors[0].shape[0] * TILE"
SUMMED = "tensor.sum_to_size(shape)"
ROWS = "tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])"
PICKED = "w.to(dtype).index_select(0, target.reshape(-1)).reshape(target.shape)"
EQUIVALENT: dict[str, str] = {
    "linear _times: _rows(g) -> g": "only the layout",
    f"linear _rows: tensor if tensor.dim() == 2 else {ROWS} -> {ROWS}": "reshape to the same shape is free",
    "dropout _masked: noise * _scale(ctx.p) detached": "the mask is a constant",
    "linear _conj: saved.conj() -> saved": "torch differentiates no complex bilinear",
    "smooth _elu: 0 -> 1": "what is above 0 is not chosen",
    "smooth softplus_rule: x * beta detached (2)": "it is only compared",
    f"parametric RReLURule: grad_x + {LINKED.format('grad_x')} -> grad_x + link.sum()": ADDS_ZERO,
    f"parametric RReLURule: grad_x + {LINKED.format('grad_x')} -> grad_x": ZERO_OR_NONE,
    "parametric RReLURule: grad_x + link.sum() -> grad_x": ZERO_OR_NONE,
    "parametric RReLURule: grad_x + link.sum() -> grad_x - link.sum()": ADDS_ZERO,
    f"likelihood NLLLossRule: grad_x + {LINKED.format('grad_x')} -> grad_x + link.sum()": ADDS_ZERO,
    f"likelihood NLLLossRule: grad_x + {LINKED.format('grad_x')} -> grad_x": ZERO_OR_NONE,
    "likelihood NLLLossRule: grad_x + link.sum() -> grad_x": ZERO_OR_NONE,
    "likelihood NLLLossRule: grad_x + link.sum() -> grad_x - link.sum()": ADDS_ZERO,
    f"regression SignRule: grad_d + {LINKED.format('grad_d')} -> grad_d + link.sum()": ADDS_ZERO,
    f"regression SignRule: grad_d + {LINKED.format('grad_d')} -> grad_d": ZERO_OR_NONE,
    "regression SignRule: grad_d + link.sum() -> grad_d": ZERO_OR_NONE,
    "regression SignRule: grad_d + link.sum() -> grad_d - link.sum()": ADDS_ZERO,
    "binary _pull: sum_to(slope() * u, tensor.shape) -> slope() * u": "torch broadcasts neither of them",
    "cross_entropy CrossEntropyRule: x.numel() > 2 * TILE -> x.numel() < 2 * TILE": SAME_PATHS,
    "cross_entropy CrossEntropyRule: 2 * TILE -> 2": SAME_PATHS,
    "cross_entropy CrossEntropyRule: 2 * TILE -> TILE": SAME_PATHS,
    "cross_entropy CrossEntropyRule: 2 * TILE -> 2 / TILE": SAME_PATHS,
    "cross_entropy CrossEntropyRule: 2 -> 3": SAME_PATHS,
    "cross_entropy CrossEntropyRule: x.dim() > 1 -> x.dim() < 1": SAME_PATHS,
    "cross_entropy CrossEntropyRule: 1 -> 2": SAME_PATHS,
    "cross_entropy _gradient: w.sum() * share detached": CONSTANT,
    "cross_entropy _gradient: along_classes(w, x.dim()) * share detached": CONSTANT,
    f"reduction sum_to: tensor if tensor.shape == shape else {SUMMED} -> {SUMMED}": "sums over no axis",
    "samples Samples: t * valid detached": CONSTANT,
    f"samples Samples: {PICKED} * valid detached": CONSTANT,
    "samples Samples: dimensions - 1 -> 1 - dimensions": "the same axis, counted from the end",
    "samples Samples: tuple(rest) -> rest": "a list for a tuple",
    "samples Samples: x.scatter_add_ if inplace else x.scatter_add -> x.scatter_add": "a copy more",
    "samples Samples: q * along_classes(w, q.dim()) detached": "runs in forward, which records no graph",
    "bits unpack: 256 -> 257": "one more row, which no byte picks",
    "elementwise pull: 2 * TILE -> 2": SAME_PATHS,
    "elementwise pull: 2 * TILE -> TILE": SAME_PATHS,
    "elementwise pull: 2 * TILE -> 2 / TILE": SAME_PATHS,
    "elementwise pull: 2 -> 3": SAME_PATHS,
    "elementwise pull: 0 -> 1": SAME_PATHS,
    "elementwise pull: kept.dim() > 0 -> kept.dim() < 0": SAME_PATHS,
    "elementwise pull: kept.numel() > 2 * TILE -> kept.numel() < 2 * TILE": SAME_PATHS,
    "elementwise pull: tiles(*whole) if large else (whole,) -> (whole,)": SAME_CUT,
    f"elementwise tiles: max(1, {TILED} // max(largest, 1)) -> 1": SAME_CUT,
    "elementwise tiles: 1 -> 2": SAME_CUT,
    f"elementwise tiles: {TILED} // max(largest, 1) -> {TILED}": SAME_CUT,
    f"elementwise tiles: {TILED} // max(largest, 1) -> max(largest, 1)": SAME_CUT,
    f"elementwise tiles: {TILED} -> tensors[0].shape[0]": SAME_CUT,
    f"elementwise tiles: {TILED} -> TILE": SAME_CUT,
    f"elementwise tiles: {TILED} -> tensors[0].shape[0] / TILE": SAME_CUT,
    "elementwise tiles: 0 -> 1": SAME_CUT,
    "elementwise tiles: max(largest, 1) -> largest": "what is empty is not cut",
    "elementwise tiles: 1 -> 2 (2)": "what is empty is not cut",
    f"elementwise select: {TIED} if {RECORDED} else chosen -> {TIED}": ADDS_ZERO,
    f"elementwise select: {TIED} if {RECORDED} else chosen -> chosen": ZERO_OR_NONE,
    f"elementwise select: {TIED} -> chosen": ZERO_OR_NONE,
    f"elementwise select: {TIED} -> chosen - 0 * torch.sign(x)": ADDS_ZERO,
    "elementwise select: 0 * torch.sign(x) -> 0": ZERO_OR_NONE,
    "elementwise select: 0 * torch.sign(x) detached": ZERO_OR_NONE,
}
"""Mutants that change no number and no promise."""

MISSED: dict[str, str] = {}
"""Mutants that are not found and should be."""

EXPLAINED = EQUIVALENT | MISSED


LIKELY: dict[str, str] = {}
"""The use by which the last mutant of an owner was found, which will find the next one soonest."""

Use = tuple[Any, Any, tuple[Any, ...]]
"""A candidate, the builtin that it must equal, and a sample."""


def found(mutant: Mutant) -> bool:
    """Whether a check says of the mutant what it does not say of the original.

    It is the quick check, or else the default; explained mutants are held by the quick check alone, to save
    time.
    """
    try:
        users = mutant.users()
    except Exception:
        return True
    for quick in (True,) if str(mutant) in EXPLAINED else (True, False):
        for name, use in sorted(uses(users), key=lambda item: item[0] != LIKELY.get(mutant.owner)):
            if faults(use, quick) - faults_of_original(mutant.module, mutant.owner, name, quick):
                LIKELY[mutant.owner] = name
                return True
    return False


def uses(users: dict[str, Any]) -> Iterator[tuple[str, Use]]:
    """By name, the uses of the layers and functions among ``users``."""
    for spec in users["SPECS"]:
        for case in spec.cases if spec.layer.__name__ in users else ():
            builds = (case.build(layer, torch.float64) for layer in (spec.layer, spec.reference))
            yield f"{spec.layer.__name__} {case}", (*builds, sample(case.inputs))
    for number, (name, call, inputs) in enumerate(CALLS):
        if name in users:
            use = partial(call, users[name]), partial(call, getattr(F, name)), sample(inputs)
            yield f"{name} {number}", use


def faults(use: Use, quick: bool) -> set[str]:
    candidate, reference, inputs = use
    try:
        report = check(candidate, *inputs, reference=reference, quick=quick, isolate=False, compile=False)
    except ValueError:
        return {"refused"}
    return {finding.fault for finding in report.findings}


@cache
def faults_of_original(module: str, owner: str, name: str, quick: bool) -> set[str]:
    return faults(dict(uses(Mutant(module, owner, "nothing", source(module)).users()))[name], quick)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("module", MODULES)
def test_every_mutant_is_found_or_explained(module: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elementwise, "TILE", TILE)
    survivors = {str(mutant) for mutant in mutants(module) if not found(mutant)}
    assert survivors == {name for name in EXPLAINED if name.startswith(module.rpartition(".")[2] + " ")}


def test_98_per_cent_of_at_least_200_mutants_are_found():
    names = {str(mutant) for module in MODULES for mutant in mutants(module)}
    real = names - EQUIVALENT.keys()
    assert len(real) >= 200
    assert len(real - MISSED.keys()) >= 0.98 * len(real)
