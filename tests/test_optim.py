"""Each update of the three optimizers equals sequential torch.optim.SGD, however the loader cuts the data."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

from tests.schedulers import SCHEDULERS, rates_of, schedule_updates, scheduled
from tests.sequential_sgd import (
    GROUP_SIZES,
    LOADERS,
    LR,
    SETTINGS,
    N,
    batches,
    descend,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    reference,
    sequential,
)
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD

each_variant = pytest.mark.parametrize("variant", GROUP_SIZES)


@pytest.mark.parametrize("form", ["cost", "closure"])
@pytest.mark.parametrize("settings", SETTINGS)
@each_variant
def test_every_update_equals_sequential_sgd(variant, settings, form):
    expected = reference(variant, **SETTINGS[settings])
    for size in LOADERS:
        model = make_model()
        optimizer = make_optimizer(variant, model.parameters(), **SETTINGS[settings])
        trajectory = record(optimizer, model)
        descend(optimizer, model, size, form)
        assert difference(trajectory, expected) < 1e-12
        assert (optimizer.updates, optimizer.examples_seen) == (len(expected), 2 * N)


class MeanOfMeans(MiniBatchGD):
    """A planted fault: the slices of a group count alike, whatever their number of rows."""

    def _absorb(self, part):
        self._group.add(replace(part, share=1.0, weight=1.0))
        if self._group.examples == self.group_size:
            self._close()


def test_mean_of_means_is_found():
    model = make_model()
    optimizer = MeanOfMeans(model.parameters(), LR, 8)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 11)
    assert difference(trajectory, reference("minibatch")) > 1e-6


def test_whole_groups_equal_sgd_to_the_last_bit():
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, **SETTINGS["all"])
    trajectory = record(optimizer, model)
    descend(optimizer, model, 64)
    expected = reference("minibatch", **SETTINGS["all"])
    # The first loader batch of 64 holds 8 whole groups: their gradients need no sums, hence no rounding.
    assert all(torch.equal(a, b) for a, b in zip(trajectory[:8], expected[:8], strict=True))


@each_variant
def test_sum_reduction(variant):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters(), reduction="sum", momentum=0.9)
    trajectory = record(optimizer, model)
    costs = [
        optimizer.step(lambda x, y: cross_entropy(model(x), y, reduction="sum"), x, y)
        for _ in range(2)
        for x, y in optimizer.epoch(batches(11))
    ]
    assert difference(trajectory, reference(variant, momentum=0.9)) < 1e-12
    if variant == "batch":
        first = cross_entropy(make_model()(make_data()[0]), make_data()[1], reduction="sum")
        torch.testing.assert_close(sum(costs[:7]), first.detach())


@each_variant
def test_parameter_groups_keep_their_settings(variant):
    def groups(model):
        first = {"params": model[0].parameters(), "lr": 0.02, "momentum": 0.5}
        return [first, {"params": model[2].parameters(), "weight_decay": 0.1, "maximize": True}]

    model, twin = make_model(), make_model()
    optimizer = make_optimizer(variant, groups(model))
    trajectory = record(optimizer, model)
    descend(optimizer, model, 29)
    expected = sequential(variant, twin, torch.optim.SGD(groups(twin), LR))
    assert difference(trajectory, expected) < 1e-12


@each_variant
def test_max_norm_clips_the_gradient_of_the_group(variant):
    model, twin = make_model(), make_model()
    optimizer = make_optimizer(variant, model.parameters(), max_norm=0.1, momentum=0.9)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 11)
    sgd = torch.optim.SGD(twin.parameters(), LR, momentum=0.9)
    expected = sequential(variant, twin, sgd, clip=lambda: nn.utils.clip_grad_norm_(twin.parameters(), 0.1))
    assert difference(trajectory, expected) < 1e-12
    assert difference(expected, reference(variant, momentum=0.9)) > 1e-6


@pytest.mark.parametrize("as_lr", [float, torch.tensor])
@pytest.mark.parametrize("name", SCHEDULERS)
@each_variant
def test_schedulers_step_after_each_update(variant, name, as_lr):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters(), lr=as_lr(LR), momentum=0.9)
    trajectory = record(optimizer, model)
    schedule_updates(name, optimizer)
    descend(optimizer, model, 29)
    expected, rates = scheduled(variant, name, as_lr)
    assert difference(trajectory, expected) < 1e-12
    # What CyclicLR and OneCycleLR make of momentum is among it.
    assert rates_of(optimizer) == rates


def test_every_scheduler_of_torch_is_tried():
    assert {*SCHEDULERS, "LRScheduler"} == set(lr_scheduler.__all__)


def test_reduce_on_plateau_after_each_epoch():
    model = make_model()
    optimizer = make_optimizer("batch", model.parameters())
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for cost in (1.0, 1.0, 1.0):
        descend(optimizer, model, 29, epochs=1)
        schedule.step(cost)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(LR / 100)


@each_variant
def test_lr_as_function_of_the_update_count(variant):
    model, twin = make_model(), make_model()
    optimizer = make_optimizer(variant, model.parameters(), lr=lambda update: LR / (1 + update))
    trajectory = record(optimizer, model)
    descend(optimizer, model, 29)
    sgd = torch.optim.SGD(twin.parameters(), LR)
    schedule = lr_scheduler.LambdaLR(sgd, lambda update: 1 / (1 + update))
    assert difference(trajectory, sequential(variant, twin, sgd, after=schedule.step)) < 1e-12


@pytest.mark.parametrize("last", ["own", "drop", "expected", "carry"])
def test_last_group_of_a_pass(last):
    model, twin = make_model(), make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, last=last)
    trajectory = record(optimizer, model)
    descend(optimizer, model, 29)
    inputs, targets = make_data()
    order = [*range(N), *range(N)]
    passes = [order] if last == "carry" else [order[:N], order[N:]]
    groups = [rows[start : start + 8] for rows in passes for start in range(0, len(rows), 8)]
    expected, sgd = [], torch.optim.SGD(twin.parameters(), LR)
    for rows in groups:
        fraction = len(rows) / 8
        if fraction == 1 or last in ("own", "expected"):
            sgd.zero_grad()
            factor = fraction if last == "expected" else 1.0
            (factor * cross_entropy(twin(inputs[rows]), targets[rows])).backward()
            sgd.step()
            expected.append(nn.utils.parameters_to_vector(twin.parameters()).detach().clone())
    assert difference(trajectory, expected) < 1e-12


def test_update_hooks_run_after_each_update_until_removed():
    model = make_model()
    optimizer = StochasticGD(model.parameters(), LR)
    counts: list[int] = []
    handle = optimizer.register_update_hook(lambda o: counts.append(o.updates))
    descend(optimizer, model, 64, epochs=1)
    handle.remove()
    descend(optimizer, model, 64, epochs=1)
    assert counts == list(range(1, N + 1))


@each_variant
def test_each_row_is_computed_once(variant):
    model, seen = make_model(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    descend(make_optimizer(variant, model.parameters()), model, 29, epochs=1)
    assert torch.equal(torch.cat(seen), make_data()[0])


def test_step_reports_the_mean_cost_over_its_rows():
    model = make_model()
    optimizer = BatchGD(model.parameters(), LR)
    x, y = make_data()
    cost = optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)
    torch.testing.assert_close(cost, cross_entropy(model(x), y).detach())
    assert not cost.requires_grad
    assert optimizer.updates == 0
    optimizer.flush()
    assert optimizer.updates == 1
    optimizer.flush()
    assert optimizer.updates == 1
