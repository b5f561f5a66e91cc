"""The parts of a data set, the order of its examples, and the model that learns from them."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
import torch

from experiments import options
from experiments.compare.measurement import Outcome, digest, start_and_order
from experiments.data import text
from experiments.data.module import Data, split, standardize
from experiments.data.source import DataError, Source
from experiments.model.learner import Learner
from experiments.model.networks import NETWORKS, describe
from torch_backprop import nn

SHIPPED = ("digits", *options.TABLES)


@pytest.fixture(scope="module", params=SHIPPED)
def table(request):
    return Data(request.param, seed=3)


def test_parts_are_disjoint_and_complete(table):
    rows = np.concatenate(list(table.rows.values()))
    assert sorted(rows) == list(range(len(rows)))
    sizes = [len(table.rows[part]) / len(rows) for part in ("train", "validation", "test")]
    assert sizes == pytest.approx([0.6, 0.2, 0.2], abs=0.01)


def test_parts_hold_every_stratum_in_proportion(table):
    if table.regression:
        means = [part.y.mean().item() for part in table.parts.values()]
        assert means == pytest.approx([0, 0, 0], abs=0.1)
        return
    whole = torch.cat([part.y for part in table.parts.values()]).bincount()
    for part in table.parts.values():
        expected = whole * len(part.y) / whole.sum()
        assert (part.y.bincount(minlength=len(whole)) - expected).abs().max() <= 1


def test_standardized_by_the_training_part_alone(table):
    x = table.parts["train"].x.double().flatten(1)
    varies = x.var(dim=0) > 0
    assert x.mean(dim=0).abs().max() < 1e-5
    assert x[:, varies].std(dim=0, correction=0).sub(1).abs().max() < 1e-5
    assert table.parts["test"].x.double().mean(dim=0).abs().max() > 1e-3


def test_test_rows_do_not_leak_into_the_statistics():
    values, rows = np.random.default_rng(0).normal(size=(20, 3)), np.arange(10)
    changed = values.copy()
    changed[10:] += 100
    np.testing.assert_array_equal(standardize(values, rows)[:10], standardize(changed, rows)[:10])


def test_constant_columns_stay_finite():
    values = np.ones((6, 1))
    values[5] = 4
    np.testing.assert_array_equal(standardize(values, np.arange(5)).ravel(), [0, 0, 0, 0, 0, 3])


def test_split_follows_the_seed():
    source = Source(np.zeros((100, 1)), np.repeat([0, 1], 50), 2, "classes")
    assert np.array_equal(split(source, 1)["test"], split(source, 1)["test"])
    assert not np.array_equal(split(source, 1)["test"], split(source, 2)["test"])


def test_order_depends_on_seed_and_epoch_alone():
    first, second = Data("iris", seed=0).order, Data("iris", seed=0).order
    for epoch in (0, 1, 0):
        first.set_epoch(epoch)
        rows = [row for batch in first for row in batch]
        assert sorted(rows) == list(range(90))
    second.set_epoch(1)
    list(second)
    assert first.served[1] == second.served[1] != first.served[0]
    other = Data("iris", seed=1).order
    list(other)
    assert other.served[0] != first.served[0]


def test_loader_serves_the_rows_in_order():
    data = Data("digits", seed=0)
    batches = list(data.train_dataloader())
    assert [len(y) for _, y in batches] == [256] * 4 + [53]
    order = np.random.default_rng([0, 0]).permutation(1077)
    assert torch.equal(torch.cat([x for x, _ in batches]), data.parts["train"].x[order])


def test_names_on_the_command_line_exist():
    assert set(options.READS) == set(NETWORKS)
    model = {each.name for each in fields(options.ModelOptions)}
    assert model <= set(inspect.signature(Learner).parameters)
    assert {each.name for each in fields(options.DataOptions)} <= set(inspect.signature(Data).parameters)


@pytest.mark.parametrize("model", options.READS)
def test_start_depends_on_the_seed_alone(model):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    starts = [digest(Learner(model, shape=(1, 4, 4), outputs=3, seed=seed)) for seed in (7, 7, 8)]
    assert starts[0] == starts[1] != starts[2]
    assert torch.equal(state, torch.get_rng_state())


def test_layers_are_hand_derived():
    layers = [
        module
        for module in Learner("perceptron", shape=(4,), outputs=3).modules()
        if not list(module.children())
    ]
    assert {type(layer) for layer in layers if "torchmetrics" not in type(layer).__module__} == {
        nn.Flatten,
        nn.Linear,
        nn.Tanh,
        nn.CrossEntropyLoss,
    }
    assert describe(Learner().network, "perceptron") == ("perceptron 64–32–10", 2410)


def test_unequal_start_or_order_is_refused():
    def outcome(start, *orders, seed=0):
        return Outcome("batch", seed, 0.1, start=start, orders=list(orders))

    start_and_order([outcome("a", "1", "2"), outcome("a", "1"), outcome("a"), outcome("b", "3", seed=1)])
    with pytest.raises(RuntimeError, match="same start"):
        start_and_order([outcome("a", "1"), outcome("b", "1")])
    with pytest.raises(RuntimeError, match="same order"):
        start_and_order([outcome("a", "1", "2"), outcome("a", "2")])


def test_python_documents_itself_in_english():
    assert len(text.documentation()) > 300_000
    assert "the" in text.documentation()


def test_text_foretells_the_next_character(tmp_path):
    (tmp_path / "t").write_text("abcde" * 200)
    found = text.windows(str(tmp_path / "t"), 10)
    assert (found.x.shape, found.outputs) == ((99, 10), 5)
    np.testing.assert_array_equal(found.x[0, 1:], found.y[0, :-1])
    np.testing.assert_array_equal(found.x[1], found.x[0])
    data = Data(f"text:{tmp_path / 't'}", context=10)
    assert [len(part.x) for part in data.parts.values()] == [59, 20, 20]
    (tmp_path / "t").write_text("short")
    with pytest.raises(DataError, match="has 5 characters; 201 are the fewest"):
        text.windows(str(tmp_path / "t"), 10)
    (tmp_path / "t").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(DataError, match="no text in UTF-8"):
        text.windows(str(tmp_path / "t"), 10)
    with pytest.raises(DataError, match="cannot be read"):
        text.windows(str(tmp_path / "u"), 10)
