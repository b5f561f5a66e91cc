"""Killed at ten random moments and resumed, an experiment comes to the figures of one left alone."""

import csv
import json
import random
from itertools import pairwise

import pytest
from killed import promised, survive

from experiments import catalogue

EXPERIMENTS = {
    "compare": (["--fast", "--data", "wine", "--variants", "batch,mini-batch", "--epochs", "2"], 0.4),
    "learning_rate": (["--fast", "--problems", "quadratic", "--per_decade", "4"], 0.2),
    "convergence": (["--fast", "--problems", "quadratic"], 0.1),
    "trajectory": (["--fast", "--problems", "quadratic"], 0.3),
    "trace": (["--epochs", "3"], 0.3),
    "complexity": (["--fast", "--model.width", "32", "--sweeps", "batch,data"], 0.2),
}
"""Small runs, by experiment, and the seconds within which each is killed: it goes on where it was stopped."""
PIECES = {
    "benchmark": (["--fast", "--only", "dropout?d"], 0.6),
    "coverage": (["--only", "avgpool?d"], 0.4),
    "verifiers": (["--only", "cotangent [sv]*"], 1.0),
    "take_away": (["--epochs", "1"], 0.6),
    "complexity": (["--fast", "--model.width", "32", "--sweeps", "batch,data"], 0.2),
}
"""The same of those whose figures are the clock's, or take seconds all at once."""
OF_THE_CLOCK = {"complexity": ("forward", "backward")}
"""Columns of an experiment's tables, beside `seconds`, that no second run has the same of."""


def test_every_experiment_is_killed():
    # The sweep has a test of its own.
    assert {*EXPERIMENTS, *PIECES, "sweep"} == set(catalogue.EXPERIMENTS)


def figures(run):
    """Return all that the run's tables say, times apart."""
    found, times = {}, ("seconds", *OF_THE_CLOCK.get(run.parent.name, ()))
    for path in sorted(run.glob("*.csv")):
        with path.open() as file:
            found[path.name] = [
                {key: value for key, value in row.items() if key not in times} for row in csv.DictReader(file)
            ]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_killed_at_ten_random_moments(name, tmp_path):
    options, longest = EXPERIMENTS[name]
    alone, kills = survive(name, options, tmp_path / "alone", [])
    assert kills == 0
    moments = [random.uniform(0.01, longest) for _ in range(10)]
    killed, kills = survive(name, options, tmp_path / "killed", moments)
    print("killed after", moments)
    assert kills >= 5
    assert figures(killed) == figures(alone)
    promised(killed)


def pieces(run):
    state = run / "state.json"
    return json.loads(state.read_text())["pieces"] if state.exists() else {}


@pytest.mark.slow
@pytest.mark.parametrize("name", PIECES)
def test_what_was_measured_before_a_kill_is_not_measured_again(name, tmp_path):
    options, longest = PIECES[name]
    seen = []
    moments = [random.uniform(0.01, longest) for _ in range(3)]
    killed, kills = survive(name, options, tmp_path, moments, lambda run: seen.append(pieces(run)))
    print("killed after", moments)
    assert kills >= 1
    for earlier, later in pairwise(seen):
        assert earlier.items() <= later.items()
    assert seen[-1]
    promised(killed)
