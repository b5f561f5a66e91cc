"""What options of chunks do, for which the built-in is no reference: it has no second derivative there."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from checks.agreement import Trial, agree
from checks.comparison import equal
from checks.numerics import as_precise, widened
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from experiments.held import held_bytes
from torch_backprop.nn import LinearCrossEntropyLoss

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"batch_chunk_size": 3},
    {"acc_policy": "compact"},
    {"acc_policy": "balanced", "acc_dtype": torch.float32},
    {"acc_policy": "compact", "acc_dtype": torch.float32, "chunking_method": "aspect_ratio:2"},
)


def trials(dtype: torch.dtype, how: dict[str, Any], target: Any = None, **others: Any) -> tuple[Trial, Trial]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=generator).to(dtype)
    t = torch.randint(9, (7,), generator=generator) if target is None else target
    built = []
    for kind in (LinearCrossEntropyLoss, torch.nn.LinearCrossEntropyLoss):
        torch.manual_seed(0)
        layer = kind(3, 9, bias=True, options=LinearCrossEntropyOptions(**how), **others).to(dtype)
        built.append(Trial(f"{how} {others}", layer, (x.clone(), t), dtype))
    return built[0], built[1]


def loss(trial: Trial) -> Tensor:
    return trial.call()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", OPTIONS, ids=str)
def test_precision_is_at_least_that_of_the_built_in(
    how: dict[str, Any], dtype: torch.dtype, reduction: str
) -> None:
    ours, builtin = trials(dtype, how, reduction=reduction)
    truth, _ = trials(dtype, {}, reduction=reduction)
    as_precise(ours, builtin, widened(truth))


@pytest.mark.parametrize(
    ("how", "others"),
    [
        ({}, {"label_smoothing": 0.1}),
        ({}, {"out_features": (1,), "target": torch.zeros(7, 1).long()}),
        ({}, {"target": torch.full((7, 9), 1 / 9)}),
        ({"batch_chunk_size": 2, "chunking_method": "aspect_ratio"}, {}),
        ({"acc_dtype": torch.bfloat16}, {}),
    ],
    ids=str,
)
def test_what_does_not_go_by_chunks_is_said_as_torch_says_it(
    how: dict[str, Any], others: dict[str, Any]
) -> None:
    ours, builtin = trials(torch.float32, how, **others)
    agree(loss, ours, builtin, "loss", may_raise=True)
    if not how:
        with pytest.warns(UserWarning, match="``options`` ignored"):
            ours.call()


def test_of_chunks_only_the_input_is_held() -> None:
    trial, builtin = trials(torch.float32, {"batch_chunk_size": 2})
    trial.need()
    x, t = trial.inputs
    assert held_bytes(trial.call, trial.module.parameters()) == x.nbytes + t.nbytes
    builtin.need()
    assert held_bytes(builtin.call, builtin.module.parameters()) > x.nbytes + t.nbytes


def test_no_subset_of_what_learns_holds_more_than_in_torch() -> None:
    for dtype, reduction in product((torch.float32, torch.bfloat16), ("none", "mean", "sum")):
        for needs in product((False, True), repeat=3):
            held = []
            for trial in trials(dtype, {"batch_chunk_size": 3}, reduction=reduction):
                leaves = (trial.inputs[0], *trial.module.parameters())
                for leaf, needed in zip(leaves, needs, strict=True):
                    leaf.requires_grad_(needed)
                held.append(held_bytes(trial.call, trial.module.parameters()))
            assert held[0] <= held[1], f"{dtype}, {reduction}, {needs}"


def test_gradients_that_alone_are_held_are_right_and_have_no_derivatives() -> None:
    ours, builtin = trials(torch.float32, {"batch_chunk_size": 3})
    for trial in (ours, builtin):
        for weight in (trial.module.linear.weight, trial.inputs[0]):
            weight.requires_grad_(False)
    bias = ours.module.linear.bias
    value = ours.call()
    with pytest.raises(RuntimeError, match="leave options out"):
        torch.autograd.grad(value, bias, create_graph=True)
    # nothing of what a caller may write into is held
    with torch.no_grad():
        for x in (*ours.module.parameters(), ours.inputs[0]):
            x.zero_()
    for _ in range(2):
        (seen,) = torch.autograd.grad(2 * value, bias, retain_graph=True)
        (expected,) = torch.autograd.grad(2 * builtin.call(), builtin.module.linear.bias)
        equal(seen, expected, "the bias alone")
