"""The window sampler: every example exactly once in a pass, on however many processes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torch_backprop.optim import WindowSampler


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("examples", [5, 19, 67])
@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_windows_put_together_are_the_pass(processes, examples, batch_size):
    samplers = [
        WindowSampler(examples, batch_size, seed=3, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    order = [batch[0] for batch in WindowSampler(examples, 1, seed=3, rank=0, processes=1)]
    shards = [list(sampler) for sampler in samplers]
    assert {len(shard) for shard in shards} == {len(samplers[0])}
    assert all(batch for shard in shards for batch in shard)
    found = []
    for batches in zip(*shards, strict=True):
        for row in range(max(map(len, batches))):
            found += [batch[row] for batch in batches if row < len(batch)]
    assert found == order
    assert sorted(found) == list(range(examples))


def test_orders_of_several_passes():
    reshuffled = WindowSampler(20, 6)
    passes = [list(reshuffled) for _ in range(2)]
    assert passes[0] != passes[1]
    reshuffled.set_epoch(0)
    assert list(reshuffled) == passes[0]
    drawn = [row for batch in WindowSampler(200, 7, "replacement") for row in batch]
    assert len(drawn) == 200
    assert 100 < len(set(drawn)) < 150
    assert list(WindowSampler(3, 2, "sequential")) == [[0, 1], [2]]


def test_a_seed_and_an_epoch_of_numpy():
    five: Any = np.int64(5)
    seven: Any = np.int64(7)
    own, python = WindowSampler(9, 2, seed=five), WindowSampler(9, 2, seed=5)
    own.set_epoch(seven)
    python.set_epoch(7)
    assert list(own) == list(python)


def test_the_models_random_numbers_are_left_alone():
    state = torch.get_rng_state()
    list(WindowSampler(9, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_as_the_batch_sampler_of_a_loader():
    data = TensorDataset(torch.arange(10))
    loader = DataLoader(data, batch_sampler=WindowSampler(data, 4, "sequential"))
    assert [len(rows) for (rows,) in loader] == [4, 4, 2]
    assert len(loader) == 3


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"examples": 0}, "examples"),
        ({"examples": 2, "processes": 3, "rank": 0}, "examples"),
        ({"batch_size": 0}, "batch_size"),
        ({"order": "shuffle"}, "order"),
        ({"seed": -1}, "seed"),
        ({"rank": 2, "processes": 2}, "rank"),
        ({"processes": 0, "rank": 0}, "processes"),
    ],
)
def test_bad_settings(settings, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        WindowSampler(**{"examples": 9, "batch_size": 2, **settings})
