"""Killed at ten random moments and resumed, an experiment comes to the figures of one left alone."""

import csv
import random

import pytest
from killed import survive

EXPERIMENTS = {
    "compare": (["--fast", "--data", "wine", "--variants", "batch,mini-batch", "--epochs", "2"], 0.6),
    "learning_rate": (["--fast", "--problems", "quadratic"], 0.6),
    "convergence": (["--fast", "--problems", "quadratic"], 0.1),
    "trajectory": (["--fast", "--problems", "quadratic"], 0.3),
}
"""Small runs, by experiment, and the seconds within which each is killed: it goes on where it was stopped."""
OF_THE_CLOCK = ("seconds",)


def figures(run):
    """Return all that the run's tables say, times apart."""
    found = {}
    for path in sorted(run.glob("*.csv")):
        with path.open() as file:
            found[path.name] = [
                {key: value for key, value in row.items() if key not in OF_THE_CLOCK}
                for row in csv.DictReader(file)
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
    assert (killed / "report.html").exists()
    assert not list(killed.rglob(".*.partial"))
