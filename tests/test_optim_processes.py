"""Two and three processes of uneven shards make every update that one process makes."""

import warnings
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from tests.processes import spawn
from tests.sequential_sgd import (
    GROUP_SIZES,
    SETTINGS,
    N,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    reference,
    snapshot,
)
from tests.test_optim_rows import make_weights, weighted_cost, weighted_reference
from torch_backprop.optim import BatchGD, Descent, MiniBatchGD, StochasticGD
from torch_backprop.optim.cursor import positions

# Rows of each loader batch, by process: uneven, one process without any, and one process alone.
SHARDS = {2: ((5, 9), (1, 17), (0, 3), (13, 13), (6, 0)), 3: ((4, 1, 7), (11, 2, 0), (0, 0, 5), (9, 14, 14))}
CHOSEN = {name: SETTINGS[name] for name in ("plain", "all", "dampening")}


def shards(size: int, rank: int) -> list[Tensor]:
    """Return the rows' indices in each loader batch of one process."""
    found, start = [], 0
    for counts in SHARDS[size]:
        found.append(start + torch.tensor(positions(list(counts), rank), dtype=torch.long))
        start += sum(counts)
    assert start == N
    return found


def descend(optimizer: Descent, model: Any, batches: list[Tensor], form: str, weighted: bool) -> None:
    rows = (*make_data(), make_weights())

    def cost(x, y, w):
        return weighted_cost(model, x, y, w) if weighted else cross_entropy(model(x), y)

    for indices in optimizer.epoch(batches):
        batch = tuple(row[indices] for row in rows)
        weight = batch[-1] if weighted else None

        def closure(batch=batch, weight=weight):
            loss = cost(*optimizer.take(*batch, weight=weight))
            loss.backward()
            return loss

        if form == "closure":
            optimizer.step(closure)
        else:
            optimizer.step(cost, *batch, weight=weight)


def trajectories(rank: int, size: int) -> dict[tuple, Any]:
    found = {}
    batches = shards(size, rank)
    for variant, settings, form in product(GROUP_SIZES, CHOSEN, ("cost", "closure")):
        model = make_model()
        parallel = DistributedDataParallel(model)
        optimizer = make_optimizer(variant, model.parameters(), **SETTINGS[settings])
        optimizer._unseen.clear()
        trajectory = record(optimizer, model)
        for _ in range(2):
            descend(optimizer, parallel, batches, form, weighted=False)
        found[variant, settings, form] = trajectory, optimizer.examples_seen
        assert parallel.require_backward_grad_sync
    for variant, form in product(GROUP_SIZES, ("cost", "closure")):
        model = make_model()
        optimizer = make_optimizer(variant, model.parameters(), momentum=0.9, weight_decay=0.1)
        optimizer._unseen.clear()
        trajectory = record(optimizer, model)
        descend(optimizer, model, batches, form, weighted=True)
        found[variant, "weighted", form] = trajectory, optimizer.examples_seen
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_every_update_equals_sequential_sgd(size, tmp_path):
    results = spawn(trajectories, size, tmp_path, size)
    for found in results:
        for (variant, settings, _), (trajectory, seen) in found.items():
            weighted = settings == "weighted"
            expected = weighted_reference(variant) if weighted else reference(variant, **SETTINGS[settings])
            assert difference(trajectory, expected) < 1e-12
            assert seen == (N if weighted else 2 * N)
    # The processes hold the same bits, not merely the same numbers.
    first, *others = [torch.stack(found["minibatch", "all", "cost"][0]) for found in results]
    assert all(torch.equal(first, other) for other in others)
