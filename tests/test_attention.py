"""The attention function, in a module of its own, held to every check; and what the checks cannot ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from checks import CHECKS, COMPILED_CHECKS, compilation, gradients, values
from checks.corrected import CORRECTED, CORRECTED_SECOND_ORDER
from checks.corrected.attention import with_attention_by_formula
from checks.trial import draws, trials
from torch import Tensor

from experiments.held import held_bytes
from torch_backprop import functional, nn
from torch_backprop.layers.attention import multihead, tiling
from torch_backprop.spec import Case, Draw, LayerSpec, case


class Builtin(torch.nn.Module):
    """torch's function, with a mask of integers read as booleans."""

    function: Callable[..., Tensor] = staticmethod(torch.nn.functional.scaled_dot_product_attention)

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def _get_name(self) -> str:
        return "Attention"

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = mask.bool() if mask is not None and mask.dtype == torch.int64 else mask
        return self.function(query, key, value, mask, **self.options)


class Attention(Builtin):
    function = staticmethod(functional.scaled_dot_product_attention)


def qkv(*shape: int, keys: int = 6) -> tuple[tuple[int, ...], ...]:
    return shape, (*shape[:-2], keys, shape[-1]), (*shape[:-2], keys, shape[-1])


SEEN = Draw((5, 6), "classes", 2)
QUADRATIC = frozenset({"quadratic"})
CASES = (
    case(*qkv(1, 2, 5, 2, keys=5), is_causal=True),
    case(*qkv(2, 5, 2), SEEN),
    case(*qkv(1, 2, 5, 2), (2, 1, 6), scale=0.7),
    case((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), enable_gqa=True),
)
RANDOM = (case(*qkv(1, 2, 6, 2), dropout_p=0.3), case(*qkv(1, 1, 6, 2), dropout_p=1.0))
SPEC = LayerSpec(Attention, Builtin, CASES + RANDOM, QUADRATIC)
EVERY = [pytest.param(SPEC, case, id=str(case)) for case in SPEC.cases]


@pytest.fixture(autouse=True)
def corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (CORRECTED, CORRECTED_SECOND_ORDER):
        monkeypatch.setitem(table, Builtin, with_attention_by_formula(Builtin))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("spec", "case"), EVERY)
def test_function(spec: LayerSpec, case: Case, check: Callable[..., None]) -> None:
    check(spec, case)


@pytest.mark.slow
@pytest.mark.parametrize("check", COMPILED_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("spec", "case"), EVERY[:1] + EVERY[-2:-1])
def test_compiled_function(spec: LayerSpec, case: Case, check: Callable[..., None]) -> None:
    check(spec, case)


@pytest.mark.slow
def test_function_compiled_by_inductor() -> None:
    compilation.inductor(SPEC, CASES[0])


@pytest.mark.slow
@pytest.mark.parametrize("check", COMPILED_CHECKS, ids=lambda check: check.__name__)
def test_layer_compiled_with_dropout(check: Callable[..., None]) -> None:
    (spec,) = multihead.SPECS
    assert draws(trials(spec, spec.cases[-1])[0])
    check(spec, spec.cases[-1])


TILED = (
    case((2, 4, 9, 2), (2, 2, 9, 2), (2, 2, 9, 2), is_causal=True, enable_gqa=True),
    case((2, 1, 7, 2), (3, 9, 2), (1, 3, 9, 3), (7, 1), scale=-0.5),
    case((4, 7, 2), (4, 9, 2), (4, 9, 2), Draw((4, 1, 9), "classes", 2), dropout_p=0.4),
    case((7, 2), (9, 2), (4, 9, 3), (7, 1), dropout_p=0.4),
)


@pytest.mark.parametrize("size", [1, 30, 100])
@pytest.mark.parametrize("case", TILED, ids=str)
def test_tiles_of_any_size_make_the_same_whole(
    case: Case, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "TILE", size)
    spec = LayerSpec(Attention, Builtin, (case,))
    for check in (values.values, gradients.gradients, gradients.needs):
        check(spec, case)


def test_queries_that_see_nothing_attend_to_nothing() -> None:
    for shape in ((1, 2, 3, 4), (2, 3, 4)):
        x = torch.randn(shape, requires_grad=True)
        seen = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
        y = functional.scaled_dot_product_attention(x, x, x, seen)
        assert not y.select(-2, 1).any()
        (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        torch.testing.assert_close(grad, torch.autograd.grad(y.sum(), x)[0])
        assert grad.isfinite().all()
        assert torch.autograd.grad(grad.sum(), x)[0].isfinite().all()


def test_nothing_of_the_size_of_the_scores_is_held() -> None:
    q, k, v = (torch.randn(1, 2, 64, 4, requires_grad=True) for _ in range(3))
    held: list[int] = []

    def pack(x: Tensor) -> Tensor:
        held.append(x.numel() * x.element_size())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
    assert sum(held) == 3 * q.numel() * 4 + 2 * 64 * 64 // 8


Q = (1, 2, 3, 4)
REFUSED = {
    "dtype": ((torch.ones(Q), torch.ones(Q), torch.ones(Q).double()), {}),
    "dimensions": ((torch.ones(3),) * 3, {}),
    "width": ((torch.ones(Q), torch.ones(1, 2, 3, 5), torch.ones(Q)), {}),
    "groups": ((torch.ones(1, 4, 3, 4), *(torch.ones(1, 3, 3, 4),) * 2), {"enable_gqa": True}),
    "groups not asked for": ((torch.ones(1, 4, 3, 4), torch.ones(Q), torch.ones(Q)), {}),
    "mask": ((torch.ones(Q),) * 3, {"attn_mask": torch.ones(2, 2)}),
    "mask's dtype": ((torch.ones(Q),) * 3, {"attn_mask": torch.ones(3, 3).long()}),
    "mask of more batches": ((torch.ones(Q),) * 3, {"attn_mask": torch.ones(5, 1, 1, 3, 3)}),
    "two masks": ((torch.ones(2, 3, 4),) * 3, {"attn_mask": torch.ones(3, 3), "is_causal": True}),
    "integers": ((torch.ones(Q).long(),) * 3, {}),
}


@pytest.mark.parametrize("dropout_p", [0.0, 0.5, 1.5, -1.0])
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_the_words_of_torch(name: str, dropout_p: float) -> None:
    arguments, options = REFUSED[name]
    raised = []
    for function in (Builtin.function, Attention.function):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            function(*arguments, dropout_p=dropout_p, **options)
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


@pytest.mark.parametrize(
    "mask", [torch.tensor(0.5), torch.tensor(True), torch.tensor([0.5, -1.0, 2.0])], ids=str
)
def test_a_mask_of_fewer_dimensions_than_the_scores(mask: Tensor) -> None:
    q, k, v = torch.randn(3, 2, 3, 4).unbind()
    found = []
    for attend in (functional.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention):
        m = mask.clone().requires_grad_(mask.is_floating_point())
        x = q.clone().requires_grad_()
        y = attend(x, k, v, m)
        found.append((y, *torch.autograd.grad(y.square().sum(), [x, m][: 1 + m.requires_grad])))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("size", [(3, 2, 4), (9, 2, 4)], ids=str)
@pytest.mark.parametrize("weights", [False, True])
def test_no_subset_of_what_learns_holds_more_than_in_torch(size: tuple[int, ...], weights: bool) -> None:
    modules = [
        place.MultiheadAttention(4, 2, dropout=0.3 if weights or size[0] > 4 else 0.0)
        for place in (nn, torch.nn)
    ]
    inputs = [torch.randn(size) for _ in range(3)]
    for needs in product((False, True), repeat=3 + len(list(modules[0].parameters()))):
        held = []
        for module in modules:
            for leaf, needed in zip((*inputs, *module.parameters()), needs, strict=True):
                leaf.requires_grad_(needed)
            call = partial(module, *inputs, need_weights=weights)
            held.append(held_bytes(call, module.parameters()))
        assert held[0] <= held[1], f"{held[0]} bytes for {needs}, the built-in {held[1]}"


def test_weights_that_only_values_could_learn_by_need_no_gradient() -> None:
    q, k, v = torch.ones(2, 1, 4), torch.ones(3, 1, 4), torch.ones(3, 1, 4, requires_grad=True)
    for kind in (torch.nn.MultiheadAttention, nn.MultiheadAttention):
        y, w = kind(4, 2).requires_grad_(False)(q, k, v)
        assert y.requires_grad
        assert not w.requires_grad


def test_values_alone_are_batched() -> None:
    q, k, v = torch.randn(3, 2, 3, 4).unbind()
    seen = torch.func.vmap(lambda v: functional.scaled_dot_product_attention(q, k, v))(v.expand(2, 2, 3, 4))
    torch.testing.assert_close(seen[1], functional.scaled_dot_product_attention(q, k, v))
