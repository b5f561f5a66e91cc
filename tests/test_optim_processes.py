"""Two and three processes of uneven shards make every update that one process makes."""

import warnings
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from tests.processes import regroup, spawn
from tests.schedulers import SCHEDULERS, schedule_updates, scheduled
from tests.sequential_sgd import (
    GROUP_SIZES,
    LR,
    SETTINGS,
    N,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    reference,
    sequential,
    snapshot,
)
from tests.test_optim_rows import make_weights, weighted_cost, weighted_reference
from torch_backprop.optim import BatchGD, Descent
from torch_backprop.optim.cursor import positions

# One message an update takes its time: a pass will do where each example makes one.
PASSES = {"batch": 2, "stochastic": 1, "minibatch": 2}
# Rows of each loader batch, by process: uneven, some processes without any.
SHARDS = {2: ((5, 9), (1, 17), (0, 3), (13, 13), (6, 0)), 3: ((4, 1, 7), (11, 2, 0), (0, 0, 5), (9, 14, 14))}
# The variants that every scheduler is tried with, by the number of processes.
SCHEDULED = {2: tuple(GROUP_SIZES), 3: ("minibatch",)}


def shards(size: int, rank: int) -> list[Tensor]:
    """Return the rows' indices in each loader batch of one process."""
    found, start = [], 0
    for counts in SHARDS[size]:
        found.append(start + torch.tensor(positions(list(counts), rank), dtype=torch.long))
        start += sum(counts)
    assert start == N
    return found


def descend(optimizer: Descent, model: Any, batches: list[Tensor], form: str, weighted: bool = False) -> None:
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


def groups(model: nn.Sequential, lr: Any) -> list[dict[str, Any]]:
    first = {"params": model[0].parameters(), "lr": lr, "weight_decay": 0.1, "maximize": True}
    return [first, {"params": model[2].parameters(), "lr": lr, "momentum": 0.5, "dampening": 0.3}]


def expected_of(variant: str, settings: str) -> list[Tensor]:
    if settings in SCHEDULERS:
        return scheduled(variant, settings)[0]
    if settings == "weighted":
        return weighted_reference(variant)
    if settings == "groups":
        twin = make_model()
        sgd = torch.optim.SGD(groups(twin, LR))
        schedule = torch.optim.lr_scheduler.LambdaLR(sgd, lambda update: 1 / (1 + update))
        return sequential(variant, twin, sgd, after=schedule.step)
    return reference(variant, **SETTINGS[settings])


def trajectories(rank: int, size: int) -> dict[tuple, tuple[list[Tensor], int]]:
    found = {}
    batches = shards(size, rank)
    for variant, (settings, form) in product(GROUP_SIZES, (("plain", "cost"), ("all", "closure"))):
        model = make_model()
        parallel = DistributedDataParallel(model)
        optimizer = make_optimizer(variant, model.parameters(), **SETTINGS[settings])
        trajectory = record(optimizer, model)
        for _ in range(PASSES[variant]):
            descend(optimizer, parallel, batches, form)
        found[variant, settings, form] = trajectory, optimizer.examples_seen
        assert parallel.require_backward_grad_sync
    for variant in GROUP_SIZES:
        model = make_model()
        optimizer = make_optimizer(variant, groups(model, lambda update: LR / (1 + update)))
        trajectory = record(optimizer, model)
        for _ in range(PASSES[variant]):
            descend(optimizer, model, batches, "closure")
        found[variant, "groups", "closure"] = trajectory, optimizer.examples_seen
    for variant, form in zip(GROUP_SIZES, ("closure", "cost", "closure"), strict=True):
        model = make_model()
        optimizer = make_optimizer(variant, model.parameters(), momentum=0.9, weight_decay=0.1)
        trajectory = record(optimizer, model)
        descend(optimizer, model, batches, form, weighted=True)
        found[variant, "weighted", form] = trajectory, optimizer.examples_seen
    return {**found, **scheduled_trajectories(batches, SCHEDULED[size])}


def scheduled_trajectories(
    batches: list[Tensor], variants: tuple[str, ...]
) -> dict[tuple, tuple[list[Tensor], int]]:
    found = {}
    for (number, name), variant in product(enumerate(SCHEDULERS), variants):
        model = make_model()
        parallel = DistributedDataParallel(model)
        optimizer = make_optimizer(variant, model.parameters(), momentum=0.9)
        trajectory = record(optimizer, model)
        schedule_updates(name, optimizer)
        for _ in range(PASSES[variant]):
            first = batches[:1] if variant == "stochastic" else batches
            descend(optimizer, parallel, first, "closure" if number % 2 else "cost")
        found[variant, name, "scheduled"] = trajectory, optimizer.examples_seen
    return found


def failures(rank: int) -> list[str]:
    """Return what every process says where the last one goes wrong."""
    last = rank == distributed.get_world_size() - 1
    x, y = make_data()

    def rows(optimizer, model):
        optimizer.step(lambda x, y: cross_entropy(model(x), y), x[:9], y[: 8 if last else 9])

    def cost(optimizer, model):
        bad = (last and (lambda updates: updates == 2)) or (lambda _: False)
        scale = torch.tensor(float("nan"))
        optimizer.step(lambda x: model(x).mean() * (scale if bad(optimizer.updates) else 1), x[:16])

    def take(optimizer, model):
        optimizer.step(lambda: None if last else model(optimizer.take(x)[0]).mean().backward())

    def batches(optimizer, model):
        for batch in optimizer.epoch([x[:4]] if last else [x[:4], x[4:8]]):
            optimizer.step(lambda x: model(x).mean(), batch)

    said = []
    for wrong in (rows, cost, take, batches):
        model = make_model()
        optimizer = make_optimizer("minibatch", model.parameters())
        before = snapshot(model)
        with pytest.raises((RuntimeError, ValueError)) as error:
            wrong(optimizer, model)
        said.append(str(error.value))
        assert wrong is batches or torch.equal(snapshot(model), before)
    return said


class Partial(nn.Module):
    """Two weights, of which each process uses one, one that nobody uses, and a complex one."""

    def __init__(self):
        super().__init__()
        self.own = nn.ParameterList(torch.ones((), dtype=torch.float64) for _ in range(3))
        self.phase = nn.ParameterList([torch.ones((), dtype=torch.complex128)])

    def forward(self, x, index):
        return (self.own[index] * x * self.phase[0] - 2).abs().square().mean()


def partial(rank: int) -> Tensor:
    model = Partial()
    optimizer = make_optimizer("batch", model.parameters(), weight_decay=0.5)
    optimizer.step(lambda x: model(x, rank), torch.tensor([1.0 + rank, 3.0 + rank]).double())
    optimizer.flush()
    return torch.stack([torch.view_as_real(theta.detach() + 0j) for theta in model.parameters()])


def searched(batches: list[Tensor]) -> Tensor:
    """Return the end of four passes with a line search; and refuse its state in the middle of a pass."""
    model = make_model()
    optimizer = BatchGD(model.parameters(), 30.0, line_search="armijo")
    for number in range(4):
        descend(optimizer, model, batches, "closure" if number % 2 else "cost")
    if distributed.is_initialized():
        x, y = make_data()
        optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)
        with pytest.raises(ValueError, match="'kept'"):
            optimizer.load_state_dict(optimizer.state_dict())
    return snapshot(model)


def group_of_one() -> None:
    """A group of one, in which DistributedDataParallel keeps count of backward passes as in any other."""
    for form in ("cost", "closure"):
        model = make_model()
        parallel = DistributedDataParallel(model)
        optimizer = make_optimizer("minibatch", model.parameters())
        trajectory = record(optimizer, model)
        for _ in range(2):
            descend(optimizer, parallel, list(torch.arange(N).split(29)), form)
        assert difference(trajectory, reference("minibatch")) < 1e-12


def everything(rank: int, folder: str) -> dict[int, Any]:
    found = {}
    for size in (3, 2):
        if regroup(rank, size, folder):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                results = trajectories(rank, size)
            serial = [str(warning.message) for warning in caught if "serial" in str(warning.message)]
            found[size] = {"trajectories": results, "serial": serial, "failures": failures(rank)}
    if regroup(rank, 2, folder):
        found["partial"], found["searched"] = partial(rank), searched(shards(2, rank))
    # Last, since ever fewer processes join.
    if regroup(rank, 1, folder):
        group_of_one()
    return found


def test_several_processes(tmp_path):
    results = spawn(everything, 3, tmp_path, str(tmp_path))
    for size, found in ((size, rank[size]) for rank in results for size in rank if size in (2, 3)):
        for (variant, settings, form), (trajectory, seen) in found["trajectories"].items():
            short = form == "scheduled" and variant == "stochastic"
            rows = sum(SHARDS[size][0]) if short else N if settings == "weighted" else PASSES[variant] * N
            expected = expected_of(variant, settings)
            assert difference(trajectory, expected[:rows] if variant == "stochastic" else expected) < 1e-12
            assert seen == rows
        # Each optimizer that was stochastic said so once.
        scheduled = len(SCHEDULERS) * ("stochastic" in SCHEDULED[size])
        assert len(found["serial"]) == 4 + scheduled, found["serial"]
        assert f"over {size} processes is exact but serial" in found["serial"][0]
    # The processes hold the same bits, not merely the same numbers.
    for size in (2, 3):
        mine, *others = [
            rank[size]["trajectories"]["minibatch", "all", "closure"][0] for rank in results[:size]
        ]
        assert all(torch.equal(torch.stack(mine), torch.stack(other)) for other in others)
        *whole, failed = [rank[size]["failures"] for rank in results[:size]]
        own = ("rows[1] has 8 rows", "not finite", "never called take", "has fewer loader batches")
        assert all(sentence in said for sentence, said in zip(own, failed, strict=True))
        assert all("Another process" in said for other in whole for said in other)
    alone = searched([torch.arange(N)])
    assert all((found["searched"] - alone).abs().max() < 1e-12 for found in results[:2])
    check_partial(results[0]["partial"], results[1]["partial"])


def check_partial(first: Tensor, second: Tensor) -> None:
    model = Partial()
    sgd = torch.optim.SGD(model.parameters(), 0.01, weight_decay=0.5)
    costs = [model(torch.tensor([1.0 + rank, 3.0 + rank]).double(), rank) for rank in (0, 1)]
    ((costs[0] + costs[1]) / 2).backward()
    sgd.step()
    expected = torch.stack([torch.view_as_real(theta.detach() + 0j) for theta in model.parameters()])
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-12)
    assert torch.equal(first, second)
