"""What the checks cannot ask of embeddings: tables changed in place, and sparse gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from checks.agreement import agree
from checks.comparison import equal
from checks.trial import Trial
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from torch_backprop import functional, nn

PAIRS = [(nn.Embedding, torch.nn.Embedding), (nn.EmbeddingBag, torch.nn.EmbeddingBag)]
NAMES = [ours.__name__ for ours, _ in PAIRS]
ROWS = torch.tensor([[1, 3, 1], [2, 0, 3]])


def trials(pair: Any, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Trial, Trial]:
    table = torch.arange(12, dtype=dtype).reshape(4, 3) / 7
    ours, builtin = (
        Trial(f"{kind.__name__}({options})", kind(4, 3, _weight=table.clone(), **options), (ROWS,), dtype)
        for kind in pair
    )
    return ours, builtin


def gradient(trial: Trial) -> tuple[Any, ...]:
    """Values, the table after the call, and the gradient with the structure of a sparse tensor."""
    trial.need()
    y = trial.call()
    y.backward(torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape))
    grad_w = trial.module.weight.grad
    if not grad_w.is_sparse:
        return y, trial.module.weight, grad_w
    return (
        y,
        trial.module.weight,
        grad_w.is_coalesced(),
        grad_w._indices(),
        grad_w._values(),
        grad_w.to_dense(),
    )


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
@pytest.mark.parametrize(("padding", "norm"), [(None, 2.0), (3, 1.0), (-4, float("inf"))])
def test_rows_are_renormalized_in_place(pair: Any, padding: int | None, norm: float) -> None:
    agree(gradient, *trials(pair, padding_idx=padding, max_norm=1.5, norm_type=norm), "gradient")


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
@pytest.mark.parametrize(("padding", "scaled"), list(product((None, 3), (False, True))))
def test_sparse_gradients(pair: Any, padding: int | None, scaled: bool) -> None:
    options = {"padding_idx": padding, "scale_grad_by_freq": scaled, "sparse": True}
    for dtype in (torch.float64, torch.bfloat16):
        agree(gradient, *trials(pair, dtype, **options), "sparse gradient", may_raise=True)


def test_a_sparse_gradient_of_fake_bags_with_padding() -> None:
    for trial in trials(PAIRS[1], sparse=True, padding_idx=3):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            table, rows = (mode.from_tensor(x) for x in (trial.module.weight.detach(), ROWS))
            trial.module.weight = torch.nn.Parameter(table)
            trial.module(rows).sum().backward()
        grad_w: Any = trial.module.weight.grad
        assert grad_w.is_sparse
        assert grad_w.shape == (4, 3)


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_a_sparse_optimizer_takes_the_same_steps(pair: Any) -> None:
    tables = []
    for trial in trials(pair, sparse=True):
        optimizer = torch.optim.SparseAdam(trial.module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            trial.call().square().sum().backward()
            optimizer.step()
        tables.append(trial.module.weight.detach())
    torch.testing.assert_close(*tables, rtol=1e-12, atol=0)


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
@pytest.mark.parametrize("freeze", [True, False])
def test_from_pretrained(pair: Any, freeze: bool) -> None:
    table = torch.ones(4, 3)
    ours, builtin = (kind.from_pretrained(table, freeze=freeze, padding_idx=1) for kind in pair)
    assert type(ours) is pair[0]
    assert repr(ours) == repr(builtin)
    assert ours.weight.requires_grad is not freeze
    assert ours.weight.data_ptr() == table.data_ptr()


FLAT = torch.tensor([1, 3, 1, 2, 0, 3, 3])
# the second bag and the last are empty
STARTS = torch.tensor([0, 2, 2, 5, 7])


def bag_gradients(f: Any, mode: str, weighted: bool, options: dict[str, Any]) -> Any:
    w = (torch.arange(12, dtype=torch.float64).reshape(4, 3) / 7).sin().requires_grad_()
    s = torch.linspace(-1, 2, 7, dtype=torch.float64).requires_grad_() if weighted else None
    y = f(FLAT, w, STARTS, mode=mode, per_sample_weights=s, **options)
    leaves = [x for x in (w, s) if x is not None]
    g = torch.linspace(1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y, [x.to_dense() for x in torch.autograd.grad(y, leaves, g)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("padding", [None, 3, -3])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("mode", "weighted"), [("sum", False), ("sum", True), ("mean", False), ("max", False), ("mean", True)]
)
def test_bags_of_different_sizes(mode: str, weighted: bool, sparse: bool, padding: Any, last: bool) -> None:
    options = {"sparse": sparse, "padding_idx": padding, "include_last_offset": last}
    outcomes = []
    for f in (functional.embedding_bag, torch.nn.functional.embedding_bag):
        try:
            outcomes.append(bag_gradients(f, mode, weighted, options))
        except (ValueError, NotImplementedError) as error:
            outcomes.append(repr(error))
    equal(outcomes[0], outcomes[1], "embedding_bag")


@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize(("mode", "weighted"), [("sum", True), ("mean", False)])
def test_bags_divide_by_frequencies(mode: str, weighted: bool, padding: Any) -> None:
    """torch divides by the frequency of another row: of the i-th sample for the i-th of the distinct rows."""
    options = {"padding_idx": padding, "scale_grad_by_freq": True}
    y, (grad_w, *rest) = bag_gradients(functional.embedding_bag, mode, weighted, options)
    wrong = bag_gradients(torch.nn.functional.embedding_bag, mode, weighted, options)[1][0]
    options["scale_grad_by_freq"] = False
    known, (unscaled, *others) = bag_gradients(torch.nn.functional.embedding_bag, mode, weighted, options)
    right = unscaled / FLAT.bincount().unsqueeze(1)
    equal((y, grad_w, rest), (known, right, others), "embedding_bag")
    assert not torch.allclose(wrong, right)


@pytest.mark.parametrize(("mode", "weighted"), [("sum", True), ("mean", False), ("max", False)])
def test_bags_have_every_derivative(mode: str, weighted: bool) -> None:
    w = (torch.arange(12, dtype=torch.float64).reshape(4, 3) / 7).sin().requires_grad_()
    s = torch.linspace(-1, 2, 7, dtype=torch.float64).requires_grad_() if weighted else None

    def f(w: Tensor, *s: Tensor) -> Tensor:
        return functional.embedding_bag(FLAT, w, STARTS, mode=mode, per_sample_weights=s[0] if s else None)

    leaves = (w,) if s is None else (w, s)
    assert torch.autograd.gradcheck(f, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, leaves, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize(
    "change", ["weight", "offsets", "no offsets", "mode", "max", "sample weights", "float"]
)
def test_bags_refuse_in_the_words_of_torch(change: str) -> None:
    arguments: dict[str, Any] = {"input": FLAT, "weight": torch.ones(4, 3), "offsets": STARTS}
    arguments |= {
        "weight": {"weight": torch.ones(4)},
        "offsets": {"input": ROWS},
        "no offsets": {"offsets": None},
        "mode": {"mode": "median"},
        "max": {"mode": "max", "sparse": True},
        "sample weights": {"mode": "sum", "per_sample_weights": torch.ones(2)},
        "float": {"input": FLAT.float()},
    }[change]
    words = []
    for f in (functional.embedding_bag, torch.nn.functional.embedding_bag):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            f(**arguments)
        words.append(repr(caught.value))
    assert words[0] == words[1]


@pytest.mark.parametrize("padding", [4, -5, 0, -4, 3])
def test_the_padding_is_a_row(padding: int) -> None:
    def call(f: Callable[..., Tensor]) -> Any:
        try:
            return f(ROWS, torch.ones(4, 2), padding).shape
        except AssertionError as error:
            return str(error)

    assert call(functional.embedding) == call(torch.nn.functional.embedding)


def test_torch_forgets_the_frequencies_in_the_second_derivative() -> None:
    """The gradient is linear in the cotangent, so its derivative in a direction is its value there."""

    def gradient_of(f: Callable[..., Tensor], g: Tensor) -> Tensor:
        w = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
        y = f(ROWS, w, scale_grad_by_freq=True)
        return torch.autograd.grad(y, w, g, create_graph=True)[0]

    g = torch.ones(2, 3, 2, dtype=torch.float64, requires_grad=True)
    known = gradient_of(torch.nn.functional.embedding, g).detach()
    for f, right in ((functional.embedding, True), (torch.nn.functional.embedding, False)):
        # the sum of J g against that of J's transpose applied to ones, times g
        (transposed,) = torch.autograd.grad(gradient_of(f, g).sum(), g)
        assert torch.isclose((transposed * g).sum(), known.sum()).item() is right


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_a_weight_that_is_no_table_is_refused_in_the_words_of_torch(shape: tuple[int, ...]) -> None:
    for function in (torch.nn.functional.embedding, functional.embedding):
        with pytest.raises(RuntimeError, match="'weight' must be 2-D"):
            function(torch.tensor([0]), torch.zeros(shape))
