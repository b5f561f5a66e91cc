"""Mini-batches: learning rates that follow the batch size, warm-up, and what divides the weights."""

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.sequential_sgd import LR, batches, descend, difference, make_data, make_model, record, sequential
from torch_backprop.optim import MiniBatchGD


@pytest.mark.parametrize(("rule", "factor"), [("linear", 0.5), ("sqrt", math.sqrt(0.5))])
@pytest.mark.parametrize("lr", [LR, torch.tensor(LR, dtype=torch.float64), lambda update: LR / (1 + update)])
def test_lr_follows_the_batch_size(rule, factor, lr):
    model, twin = make_model(), make_model()
    optimizer = MiniBatchGD(model.parameters(), lr, 8, scale_lr=rule, base_batch_size=16)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 29)
    sgd = torch.optim.SGD(twin.parameters(), factor * LR)
    after = lambda: None  # noqa: E731
    if callable(lr):
        after = torch.optim.lr_scheduler.LambdaLR(sgd, lambda update: 1 / (1 + update)).step
    assert difference(trajectory, sequential("minibatch", twin, sgd, after=after)) < 1e-12


def test_each_group_is_scaled():
    model = make_model()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
    optimizer = MiniBatchGD(groups, 0.3, 8, scale_lr="linear", base_batch_size=2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 1.2])


def test_warm_up():
    model, twin = make_model(), make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, warmup=5, momentum=0.9)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 29)
    sgd = torch.optim.SGD(twin.parameters(), LR, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, lambda update: min(1, (update + 1) / 5))
    assert difference(trajectory, sequential("minibatch", twin, sgd, after=schedule.step)) < 1e-12
    resumed = MiniBatchGD(model.parameters(), 7.0, 8, warmup=20)
    resumed.load_state_dict(optimizer.state_dict())
    descend(resumed, model, 67, epochs=1)
    assert resumed.param_groups[0]["lr"] == LR


@pytest.mark.parametrize("normalize", ["group", "population"])
def test_what_divides_the_weights(normalize):
    model, twin = make_model(), make_model()
    (x, y), weight = make_data(), torch.linspace(0, 3, 67).double()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, normalize=normalize)
    trajectory, expected = record(optimizer, model), []

    def cost(x, y, w):
        return (w * cross_entropy(model(x), y, reduction="none")).sum() / w.sum()

    for batch in optimizer.epoch(zip(x.split(11), y.split(11), weight.split(11), strict=True)):
        optimizer.step(cost, *batch, weight=batch[-1])
    sgd = torch.optim.SGD(twin.parameters(), LR)
    for rows, classes, w in zip(x.split(8), y.split(8), weight.split(8), strict=True):
        sgd.zero_grad()
        total = (w * cross_entropy(twin(rows), classes, reduction="none")).sum()
        (total / (w.sum() if normalize == "group" else len(w))).backward()
        sgd.step()
        expected.append(torch.nn.utils.parameters_to_vector(twin.parameters()).detach().clone())
    assert difference(trajectory, expected) < 1e-12


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"scale_lr": "cubic"}, "scale_lr"),
        ({"scale_lr": "linear"}, "base_batch_size"),
        ({"base_batch_size": 8}, "base_batch_size"),
        ({"scale_lr": "sqrt", "base_batch_size": 0}, "base_batch_size"),
        ({"warmup": -1}, "warmup"),
        ({"warmup": 2, "lr": lambda update: 0.1}, "lr"),
        ({"normalize": "mean"}, "normalize"),
    ],
)
def test_bad_settings(settings, name):
    chosen: dict[str, Any] = {"lr": LR, "batch_size": 8, **settings}
    with pytest.raises(ValueError, match=f"^{name}="):
        MiniBatchGD(make_model().parameters(), **chosen)


def test_warm_up_and_a_scheduler_at_once():
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, warmup=3)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="use one of the two"):
        descend(optimizer, model, 11)


def test_a_loader_of_any_size_closes_the_same_groups():
    closed = []
    for size in (1, 5, 67):
        model = make_model()
        optimizer = MiniBatchGD(model.parameters(), LR, 20, last="drop")
        seen: list[int] = []
        optimizer.register_update_hook(lambda o, seen=seen: seen.append(o.examples_seen))
        for x, _ in optimizer.epoch(batches(size)):
            optimizer.step(lambda x, model=model: model(x).mean(), x)
        closed.append(seen)
    assert closed == [[20, 40, 60]] * 3
