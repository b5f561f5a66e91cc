"""Every operation that PyTorch has samples of: the tape's gradients are autograd's, or it refuses."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal import common_utils
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo import core
from torch.utils import _pytree as pytree

from torch_backprop.algorithm import Tape

SAMPLES = {torch.float64: 2, torch.complex128: 1}
PARTS = 4
OPS = [
    op
    for op in op_db
    # pdist of nothing kills the interpreter in torch's own backward pass
    if op.supports_autograd and torch.float64 in op.dtypes and op.name != "nn.functional.pdist"
]


def cost(output: Any) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for y in filter(_is_dense, pytree.tree_leaves(output)):
        numbers = torch.view_as_real(y.resolve_conj()) if y.is_complex() else y
        weights = torch.linspace(0.5, 1.5, numbers.numel(), dtype=torch.float64).reshape(numbers.shape)
        total = total + (torch.where(numbers.isfinite(), numbers, 0).double() * weights).sum()
    return total


class Sampled:
    """A sample as a function of those of its tensors that can have a gradient."""

    def __init__(self, op: Any, sample: Any) -> None:
        self.op = op.op
        self.flat, self.structure = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
        self.places = [i for i, x in enumerate(self.flat) if _is_dense(x)]

    def leaves(self, requires_grad: bool) -> list[Tensor]:
        return [self.flat[i].detach().clone().requires_grad_(requires_grad) for i in self.places]

    def cost(self, leaves: list[Tensor]) -> Tensor:
        torch.manual_seed(0)
        given = list(self.flat)
        for place, leaf in zip(self.places, leaves, strict=True):
            given[place] = leaf
        args, kwargs = pytree.tree_unflatten(given, self.structure)
        return cost(self.op(*args, **kwargs))

    def by_autograd(self) -> list[Tensor | None] | None:
        """None where torch has no gradient, or no derivative, or fails."""
        leaves = self.leaves(True)
        try:
            return list(torch.autograd.grad(self.cost(leaves), leaves, allow_unused=True))
        except (RuntimeError, ValueError):
            return None

    def by_the_tape(self) -> list[Tensor | None]:
        leaves = self.leaves(False)
        with Tape() as tape:
            for i, leaf in enumerate(leaves):
                tape.learn(str(i), leaf)
            value = self.cost(leaves)
        with torch.no_grad():
            gradients = dict(tape.pull_back(value))
        return [gradients.get(str(i)) for i in range(len(leaves))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("part", range(PARTS))
def test_exact_or_refused(part: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    # it looks through the whole stack at each operator and sample, for a unittest
    for module in (common_utils, core):
        monkeypatch.setattr(module, "extract_test_fn", lambda: None)
    # a test for each operator would take most of its time for itself
    for op in OPS[part::PARTS]:
        samples = op.sample_inputs("cpu", dtype, requires_grad=False) if dtype in op.dtypes else ()
        for sample in islice(samples, SAMPLES[dtype]):
            _assert_exact_or_refused(Sampled(op, sample), f"{op.name} {op.variant_test_name}")


def _assert_exact_or_refused(sampled: Sampled, name: str) -> None:
    expected = sampled.by_autograd()
    if expected is None:
        return
    try:
        seen = sampled.by_the_tape()
    except NotImplementedError as error:
        if "called at" in str(error) or "clone() it first" in str(error):
            return
        raise
    for gradient, reference in zip(seen, expected, strict=True):
        _assert_near(gradient, reference, name)


def _assert_near(seen: Tensor | None, expected: Tensor | None, name: str) -> None:
    if seen is None or expected is None:
        # what does not depend on it has no gradient, or one of zeros
        assert not any(x.count_nonzero() for x in (seen, expected) if x is not None), name
        return
    seen, expected = seen.to_dense(), expected.to_dense()
    scale = expected[expected.isfinite()].abs().amax().item() if expected.isfinite().any() else 1.0
    bound = 1e-10 * max(scale, 1.0)
    torch.testing.assert_close(
        seen, expected, rtol=0, atol=bound, equal_nan=True, msg=lambda words: f"{name}: {words}"
    )


def _is_dense(x: Any) -> bool:
    return isinstance(x, Tensor) and x.layout == torch.strided and (x.is_floating_point() or x.is_complex())
