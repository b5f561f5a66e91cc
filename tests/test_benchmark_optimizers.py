"""The benchmark of the optimizers: its table, its CSV, and that an update costs no more than it may."""

import csv
import math

import pytest

from experiments import cli
from experiments.benchmark.optimizers import Case, cases, measure


def test_benchmark_writes_what_it_measures(tmp_path, capsys):
    options = ["--optimizers", "--fast", "--only", "linear [sb]*", "--out", str(tmp_path)]
    assert cli.main(["benchmark", *options]) == 0
    path = next((tmp_path / "benchmark").iterdir()) / "metrics.csv"
    assert "plain us" in capsys.readouterr().out
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["variant"], row["form"]) for row in rows} == {
        (variant, form) for variant in ("stochastic", "batch") for form in ("cost", "closure")
    }
    assert all(float(row["ratio"]) > 0 for row in rows)


@pytest.fixture(autouse=True)
def _signals(monkeypatch):
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)


def test_a_pattern_that_fits_nothing_is_refused(tmp_path, capsys):
    assert cli.main(["benchmark", "--optimizers", "--only", "nothing", "--out", str(tmp_path)]) == 2
    assert "'nothing' is the name of no case" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["cost", "closure"])
@pytest.mark.parametrize(("group", "loader", "bound"), [(32, 32, 1.15), (1, 64, 1.0), (1, 1, 1.0)])
def test_an_update_costs_no_more_than_it_may(group, loader, bound, form):
    variant = "stochastic" if group == 1 else "mini-batch"
    case = Case("perceptron 10^6", variant, group, loader, 64 // group * (2 if group > 1 else 1))
    # What a busy machine adds to either loop must not fail the test.
    ratios = []
    while len(ratios) < 16 and min(ratios, default=math.inf) > bound:
        ratios += [row["ratio"] for row in measure(case, 6) if row["form"] == form]
    assert min(ratios) <= bound, ratios


def test_names_of_cases_are_unique():
    assert len({case.name for case in cases()}) == len(cases())
