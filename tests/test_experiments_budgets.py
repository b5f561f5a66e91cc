"""Budgets, seeds, mini-batch sizes and models: what compare trains, and what it makes of it."""

import json
import math
import re

import pytest
import torch

from experiments import cli
from experiments.compare import noise, words
from experiments.compare.contender import Contender, contenders
from experiments.compare.measurement import Outcome
from experiments.compare.options import Options, rates
from experiments.compare.rates import given
from experiments.compare.result import Result, finish_line, over_seeds
from experiments.configuration import build
from experiments.data.module import Data, Part
from experiments.model.learner import Learner
from experiments.run import RunError

BATCH, STOCHASTIC, MINI = (
    Contender("batch", math.inf, 0),
    Contender("stochastic", 1, 1),
    Contender("mini-batch", 32, 2),
)


@pytest.fixture(autouse=True)
def _signals(monkeypatch):
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)


def compare(out, *arguments):
    assert cli.main(["compare", "--fast", "--out", str(out), *arguments]) == 0
    run = next((out / "compare").iterdir())
    return run, json.loads((run / "state.json").read_text())


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"epochs": 3}, [300, 300, 300]),
        # Four groups of 32 are a pass over 100 examples, the last one of them smaller.
        ({"updates": 7}, [700, 7, 100 + 3 * 32]),
        ({"examples": 250}, [200, 250, 200 + 32]),
        ({"seconds": 2.0}, [None, None, None]),
    ],
)
def test_a_budget_is_so_many_examples_in_whole_groups(given, seen):
    options = build(Options, given)
    assert [who.budget(options, 100) for who in (BATCH, STOCHASTIC, MINI)] == seen


def test_a_budget_of_less_than_an_update_is_refused():
    with pytest.raises(RunError, match="--examples: 50 are fewer than the 100 of one update of batch"):
        BATCH.budget(build(Options, {"examples": 50}), 100)


def test_who_takes_part():
    options = build(Options, {"variants": ("mini-batch", "stochastic"), "batch_size": (8, 64)})
    found = contenders(options)
    assert [who.name for who in found] == ["mini-batch 8", "mini-batch 64", "stochastic"]
    assert [who.key for who in found] == ["mini-batch-8", "mini-batch-64", "stochastic"]
    assert [who.series for who in found] == [2, 3, 1]
    options = build(Options, {"batch_size": (8, 64), "lr": rates("mini-batch=0.1,mini-batch-64=0.3")})
    assert [given(options, who) for who in contenders(options)] == [None, None, 0.1, 0.3]


def test_equal_updates_for_every_size_and_seed(tmp_path):
    options = ["--data", "iris", "--updates", "10", "--lr", "0.3", "--repeats", "2", "--batch-size", "8,32"]
    run, state = compare(tmp_path, *options)
    outcomes = state["outcomes"]
    assert len(outcomes) == 8
    assert {outcome["points"][-1]["updates"] for outcome in outcomes.values()} == {10}
    seen = {name: outcome["points"][-1]["examples"] for name, outcome in outcomes.items()}
    # 90 examples are 12 groups of 8, the last of 2, and 3 of 32, the last of 26.
    assert (seen["batch-seed-0"], seen["stochastic-seed-1"]) == (900, 10)
    assert (seen["mini-batch-8-seed-0"], seen["mini-batch-32-seed-1"]) == (80, 3 * 90 + 32)
    starts = {name: outcome["start"] for name, outcome in outcomes.items()}
    assert len(set(starts.values())) == 2
    assert starts["batch-seed-1"] == starts["mini-batch-8-seed-1"]
    text = (run / "report.html").read_text()
    assert "Each line is the median of 2 seeds, its band from the least to the most." in text
    assert "10 updates · seeds 0 to 1" in text
    assert "mini-batch 8 after every 8 examples" in text


def test_a_budget_of_seconds_is_kept(tmp_path):
    options = ["--data", "iris", "--seconds", "0.2", "--lr", "0.3", "--variants", "batch,mini-batch"]
    _, state = compare(tmp_path, *options)
    for outcome in state["outcomes"].values():
        assert outcome["finished"]
        # The last update ends before the loader batch that spends the rest.
        assert 0.15 < outcome["points"][-1]["seconds"] < 2


@pytest.mark.parametrize(
    ("model", "data"), [("recurrent", "text"), ("transformer", "text"), ("convolution", "digits")]
)
def test_every_model_learns(model, data, tmp_path):
    options = [
        "--model",
        model,
        "--model.width",
        "8",
        "--variants",
        "mini-batch",
        "--epochs",
        "2",
        "--lr",
        "1",
    ]
    _, state = compare(tmp_path, *options)
    (outcome,) = state["outcomes"].values()
    costs = [point["cost"] for point in outcome["points"]]
    assert costs[-1] < 0.95 * costs[0]
    assert f"-{model}-{data}" in str(next((tmp_path / "compare").iterdir()))


def test_characters_are_foretold_from_those_before():
    for model in ("recurrent", "transformer"):
        learner = Learner(model, width=8, shape=(6,), outputs=5)
        x = torch.tensor([[0, 1, 2, 3, 4, 0]])
        changed = x.clone()
        changed[0, 4] = 1
        before, after = learner(x), learner(changed)
        torch.testing.assert_close(before[:, :4], after[:, :4])
        assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_noise_is_that_of_the_theory():
    data = Data("digits")
    part = Part(data.parts["train"].x[:256], data.parts["train"].y[:256])
    learner = Learner("linear", shape=data.shape)
    found = noise.measure("here", learner, part, 0, False, lambda _: None)
    assert found.sizes == [1, 2, 4, 8, 16, 32, 64, 128]
    rows = [noise._gradient(learner, part.x[i : i + 1], part.y[i : i + 1]) for i in range(256)]
    gradients = torch.stack(rows)
    mean = gradients.mean(dim=0)
    scale = ((gradients - mean).square().sum(dim=1).mean() / mean.square().sum()).item() * 256 / 255
    assert found.scale == pytest.approx(scale, rel=0.15)
    assert found.slope == pytest.approx(-1, abs=0.1)
    assert found.variances == pytest.approx([found.expected(size) for size in found.sizes], rel=0.4)
    said = words.noise([found])
    assert "as the theory has it" in said
    assert "not quite" not in said


def test_groups_of_one_order_do_not_overlap():
    groups = list(noise._groups(10, 3, 5, seed=0))
    assert len(groups) == 5
    assert len(torch.cat(groups[:3]).unique()) == 9


def result(who, *runs):
    outcomes = []
    for seed, points in enumerate(runs):
        names = ("updates", "examples", "seconds", "cost")
        rows = [{"epoch": 1.0, **dict(zip(names, point, strict=True))} for point in points]
        outcomes.append(Outcome(who.name, seed, 0.1, rows, score=0.5, finished=True))
    return Result(who, outcomes)


def test_words_agree_or_disagree_with_the_theory_as_the_numbers_do():
    results = [
        result(BATCH, [(0, 0, 0, 1.0), (9, 900, 3.0, 0.1)]),
        result(STOCHASTIC, [(0, 0, 0, 1.0), (50, 50, 1.0, 0.05)]),
        result(MINI, [(0, 0, 0, 1.0), (20, 640, 2.0, 0.02)]),
    ]
    cost, spent = finish_line(results, None)
    assert cost == 0.1
    by_updates, by_examples, by_seconds = words.race(results, cost, spent)
    assert by_updates.startswith(
        "By updates, <b>batch</b> won with 9, against 20 of mini-batch 32 and 50 of stochastic. So the theory"
    )
    assert by_examples.startswith("By examples, <b>stochastic</b> won with 50")
    assert by_seconds.startswith(
        "By seconds, <b>stochastic</b> won with 1 s, against 2 s of mini-batch 32 and 3 s"
    )
    assert re.search(r"The theory predicts mini-batch 32 \(.*\): not so here\.$", by_seconds)
    assert "not all of it as the theory predicts" in words.winners(results, cost, spent)
    cost, spent = finish_line(results, 0.06)
    assert set(spent) == {"stochastic", "mini-batch 32"}
    assert words.missed(results, cost, spent) == "batch did not reach a cost of 0.06."


def test_seeds_are_summed_up_by_their_median():
    runs = [
        [(0, 0, 0, 1.0), (9, 900, seconds, cost)] for seconds, cost in ((1.0, 0.1), (3.0, 0.3), (2.0, 0.2))
    ]
    found = result(BATCH, *runs)
    assert found.band("seconds", "cost")[1] == (2.0, 0.1, 0.2, 0.3)
    assert found.spent(0.3) == {
        "epoch": [1.0] * 3,
        "updates": [9] * 3,
        "examples": [900] * 3,
        "seconds": [1, 3, 2],
    }
    assert found.spent(0.15) is None
    assert over_seeds(found.last("cost"), "{:.1f}".format) == "0.2 (0.1–0.3)"
