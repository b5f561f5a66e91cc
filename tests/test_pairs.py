"""Distances of all pairs, which torch has as functions only: held to the checks of a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks import contract, gradients, memory, numerics, values
from torch import Tensor

from torch_backprop import functional
from torch_backprop.functional import cdist, pdist
from torch_backprop.spec import Case, LayerSpec, case

ORDERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf)
NEVER, ALWAYS = "donot_use_mm_for_euclid_dist", "use_mm_for_euclid_dist"


class Cdist(torch.nn.Module):
    compute: Callable[..., Tensor] = staticmethod(torch.cdist)

    def __init__(self, p: float = 2.0, compute_mode: str = NEVER) -> None:
        super().__init__()
        self.options = (p, compute_mode)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.compute(x1, x2, *self.options)


class OurCdist(Cdist):
    compute = staticmethod(cdist)


class Pdist(torch.nn.Module):
    compute: Callable[..., Tensor] = staticmethod(F.pdist)

    def __init__(self, p: float = 2.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return self.compute(input, self.p)


class OurPdist(Pdist):
    compute = staticmethod(pdist)


CDIST = LayerSpec(
    OurCdist,
    Cdist,
    (
        *(case((4, 3), (5, 3), p=p) for p in ORDERS),
        case((2, 4, 3), (5, 3)),
        case((2, 4, 3), (5, 3), compute_mode=ALWAYS),
    ),
)
PDIST = LayerSpec(OurPdist, Pdist, tuple(case((4, 3), p=p) for p in ORDERS))
FIRST_ORDER = (
    gradients.cotangents,
    gradients.needs,
    numerics.extremes,
    numerics.autocast,
    memory.memory,
    contract.by_hand,
    contract.mutation,
    contract.overwritten,
    values.dtypes,
)
CASES = [
    pytest.param(spec, case, id=f"{spec.layer.__name__}-{case}")
    for spec in (CDIST, PDIST)
    for case in spec.cases
]
every_case = pytest.mark.parametrize(("spec", "case"), CASES)


@pytest.mark.parametrize("check", FIRST_ORDER, ids=lambda check: check.__name__)
@every_case
def test_what_torch_has(spec: LayerSpec, case: Case, check: Any) -> None:
    check(spec, case)


@every_case
def test_what_torch_lacks(spec: LayerSpec, case: Case) -> None:
    module, inputs = case.build(spec.layer, torch.float64), case.draw(torch.float64)
    leaves = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(module, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(module, leaves, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("n", [0, 1])
def test_no_pairs(n: int, p: float) -> None:
    # here torch's backward ends the interpreter
    x = torch.ones(n, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(pdist(x, p).sum(), x)
    assert torch.equal(gradient, torch.zeros(n, 4))


@pytest.mark.parametrize("p", ORDERS)
def test_large_sets_are_cut_into_tiles(p: float) -> None:
    x1, x2 = torch.randn(300, 9).double(), torch.randn(200, 9).double()
    x1[:5] = x2[:5]
    leaves = [x.requires_grad_() for x in (x1, x2)]
    seen = torch.autograd.grad(cdist(x1, x2, p, NEVER).sum() + pdist(x1, p).sum(), leaves)
    expected = torch.autograd.grad(torch.cdist(x1, x2, p, NEVER).sum() + F.pdist(x1, p).sum(), leaves)
    torch.testing.assert_close(seen, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("p", ORDERS)
def test_gradients_of_vectors_lie_as_the_vectors(p: float) -> None:
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    for distances in (pdist(x, p), cdist(x, x.detach(), p)):
        (gradient,) = torch.autograd.grad(distances.sum(), x)
        assert gradient.is_contiguous()


def test_a_number_of_components_has_no_gradient_as_in_torch() -> None:
    x = torch.randn(5, 4, requires_grad=True)
    for source in (F, functional):
        distances = source.pairwise_distance(x, torch.zeros(5, 4), p=0)
        assert torch.autograd.grad(distances.sum(), x, allow_unused=True) == (None,)
