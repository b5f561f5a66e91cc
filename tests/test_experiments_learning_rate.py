"""Rates beyond which the variants diverge, the one that is suggested, and the sharpness."""

import pytest
import torch

from experiments.learning_rate import measure as rates
from experiments.learning_rate import words
from experiments.learning_rate.experiment import rates as listed
from experiments.learning_rate.options import Options
from experiments.theory.curvature import Surface
from experiments.theory.variants import VARIANTS


def nothing(share, detail):
    pass


def test_batch_descent_diverges_beyond_the_bound_and_not_before():
    problem = rates.PROBLEMS["quadratic"](0)
    bound = rates.bound(problem)
    largest = torch.linalg.eigvalsh(Surface(problem).hessian(Surface(problem).point()))[-1]
    assert bound == pytest.approx(2 / largest.item(), rel=1e-3)
    trials = [rates.attempt(problem, "batch", share * bound, 60, 32, 3) for share in (0.5, 0.98, 1.05, 4.0)]
    assert [trial.diverged for trial in trials] == [False, False, True, True]
    assert rates.edge(trials, "batch") == (0.98 * bound, 1.05 * bound)
    best = rates.suggestion(trials, "batch")
    assert best is not None
    assert best.lr == 0.5 * bound
    assert "At the end of the rates tried, and so perhaps not the best: batch." in words.rule(trials)
    assert "At the end" not in words.rule([rates.Trial("batch", 0.1 * bound, [1.0]), *trials])
    assert "lies between" in words.theory("quadratic", trials, bound)


def test_costs_that_are_not_finite_count_as_diverged():
    problem = rates.PROBLEMS["quadratic"](0)
    for variant in VARIANTS:
        assert rates.attempt(problem, variant, 1e30, 40, 32, 1).diverged
    assert rates.suggestion([rates.attempt(problem, "batch", 1e30, 3, 32, 1)], "batch") is None


def test_sharpness_rises_along_batch_descent():
    problem = rates.one_hot_perceptron(0, 100)
    run = rates.follow(problem, rates.bound(problem) / 2, 120, 40, nothing)
    assert run.updates == [0, 40, 80, 120]
    assert run.sharpness[-1] > run.sharpness[0]
    assert run.costs[-1] < run.costs[0]
    assert "rises from" in words.stability([run])


def test_rates_are_evenly_spaced_and_hold_both_ends():
    options = Options(lowest=0.01, highest=10.0, per_decade=2)
    assert listed(options) == pytest.approx([10 ** (power / 2) for power in range(-4, 3)])
