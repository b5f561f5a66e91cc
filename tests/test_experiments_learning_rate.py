"""Rates beyond which the variants diverge, the one that is suggested, and the sharpness."""

import math

import pytest
import torch

from experiments.compare.contender import Contender
from experiments.configuration import build
from experiments.learning_rate import measure as rates
from experiments.learning_rate import words
from experiments.learning_rate.experiment import rates as listed
from experiments.learning_rate.options import Options
from experiments.run import Run
from experiments.theory.problem import Problem

BATCH, STOCHASTIC, MINI = (
    Contender(name, size, number)
    for number, (name, size) in enumerate({"batch": math.inf, "stochastic": 1.0, "mini-batch": 32.0}.items())
)


def nothing(share, detail):
    pass


@pytest.fixture
def run(tmp_path):
    options = build(Options, {"updates": 40, "repeats": 2, "sharpness_updates": 200})
    return Run.create("learning_rate", str(tmp_path), options)


def tried(run, name, who, lr):
    problem = Problem.of(run.options, name)
    return rates.Trial(who.variant, lr, rates.attempt(run, problem, who, lr, nothing))


def test_batch_descent_diverges_beyond_the_bound_and_not_before(run):
    problem = Problem.of(run.options, "quadratic")
    bound, surface = problem.bound(problem.learner()), problem.surface(problem.learner())
    largest = torch.linalg.eigvalsh(surface.hessian(surface.point()))[-1]
    assert bound == pytest.approx(2 / largest.item(), rel=1e-3)
    trials = [tried(run, "quadratic", BATCH, share * bound) for share in (0.5, 0.98, 1.05, 4.0)]
    assert [trial.diverged for trial in trials] == [False, False, True, True]
    assert rates.edge(trials, "batch") == (0.98 * bound, 1.05 * bound)
    best = rates.suggestion(trials, "batch")
    assert best is not None
    assert best.lr == 0.5 * bound
    assert "At the end of the rates tried, and so perhaps not the best: batch." in words.rule(trials)
    assert "At the end" not in words.rule([rates.Trial("batch", 0.1 * bound, [1.0]), *trials])
    assert "lies between" in words.theory(True, trials, bound)


@pytest.mark.parametrize(("who", "orders"), [(BATCH, 1), (STOCHASTIC, 2), (MINI, 2)])
def test_costs_that_are_not_finite_count_as_diverged(who, orders, run):
    trial = tried(run, "quadratic", who, 1e30)
    assert trial.costs == [None] * orders
    assert rates.suggestion([trial], who.variant) is None


def test_sharpness_rises_along_batch_descent(run):
    course = rates.follow(run, Problem.of(run.options, "perceptron"), 0.5, nothing)
    assert course.updates == list(range(0, 201, 20))
    assert course.sharpness[-1] > course.sharpness[0]
    assert course.costs[-1] < course.costs[0]
    assert "rises from" in words.stability([course])


def test_rates_are_evenly_spaced_and_hold_both_ends():
    options = Options(lowest=0.01, highest=10.0, per_decade=2)
    assert listed(options) == pytest.approx([10 ** (power / 2) for power in range(-4, 3)])
