"""However rows come, in what form and sizes, weighted or not, resumed or not: one trajectory."""

import pickle
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.sequential_sgd import GROUP_SIZES, LR, make_data, make_model, make_optimizer, snapshot
from torch_backprop.optim import Descent

SIZES = (1, 1, 2, 3, 8, 16, 67)


def weighted_sum(model: nn.Module, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return (cross_entropy(model(x), y, reduction="none") * w).sum()


def feed(optimizer: Descent, model: nn.Module, batch: tuple, weighted: bool, form: str) -> None:
    """Make a step over a loader batch, by one of three forms of the protocol."""

    def cost(x, y, w):
        total = weighted_sum(model, x, y, w)
        # Weights that nobody declares as such would couple the rows that they are taken over.
        whole = w.sum() if weighted else len(w)
        return total / whole if optimizer.reduction == "mean" else total

    weight = batch[2] if weighted else None

    def closure() -> Any:
        if form == "apart":
            (x,), (y, w) = optimizer.take(batch[0]), optimizer.take(*batch[1:], weight=weight)
        else:
            x, y, w = optimizer.take(*batch, weight=weight)
        # A mean over nothing is none.
        if w.sum():
            cost(x, y, w).backward()

    if form == "cost":
        optimizer.step(cost, *batch, weight=weight)
    else:
        optimizer.step(closure)


def expected(rows: tuple[Tensor, ...], size: int, settings: dict[str, Any]) -> Tensor:
    model = make_model()
    sgd = torch.optim.SGD(model.parameters(), LR, **settings)
    for x, y, w in list(zip(*(row.split(size) for row in rows), strict=True)) * 2:
        if w.sum():
            sgd.zero_grad()
            (weighted_sum(model, x, y, w) / w.sum()).backward()
            sgd.step()
    return snapshot(model)


@pytest.mark.parametrize("seed", range(30))
def test_random_ways_of_feeding(seed: int) -> None:
    draw = random.Random(seed)
    variant, weighted = list(GROUP_SIZES)[seed % 3], draw.random() < 0.5
    x, y = make_data()
    w = torch.tensor([draw.choice([0, 0, 0.5, 1, 2]) if weighted else 1.0 for _ in x]).double()
    settings = {"momentum": draw.choice([0, 0.9]), "weight_decay": draw.choice([0, 0.1])}
    model = make_model()
    optimizer = make_optimizer(
        variant, model.parameters(), reduction=draw.choice(["mean", "sum"]), **settings
    )
    sizes: list[int] = []
    while sum(sizes) < len(x):
        sizes.append(min(draw.choice(SIZES), len(x) - sum(sizes)))
    batches = list(zip(x.split(sizes), y.split(sizes), w.split(sizes), strict=True))
    for _ in range(2):
        for batch in optimizer.epoch(batches):
            feed(optimizer, model, batch, weighted, draw.choice(["cost", "closure", "apart"]))
            if draw.random() < 0.1:
                optimizer.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    torch.testing.assert_close(
        snapshot(model), expected((x, y, w), GROUP_SIZES[variant], settings), rtol=0, atol=1e-12
    )
    assert optimizer.examples_seen == 2 * len(x)
