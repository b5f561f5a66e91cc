"""The benchmark of single examples: every way has its row, and ours are as fast as they are said to be."""

import csv

import pytest

from experiments import cli
from experiments.benchmark import examples
from tests.test_optim_descend import needs_compiler


@needs_compiler
@pytest.mark.slow
def test_benchmark_writes_what_it_measures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)
    # Inductor takes too long for a test.
    monkeypatch.setattr(examples, "PATHS", tuple(path for path in examples.PATHS if path != "unrolled"))
    assert cli.main(["benchmark", "--examples", "--fast", "--only", "linear", "--out", str(tmp_path)]) == 0
    assert "speed-up" in capsys.readouterr().out
    path = next((tmp_path / "benchmark").iterdir()) / "metrics.csv"
    with path.open() as file:
        rows = {row["way"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {
        *("plain loop", "DataLoader of batch 1", "torch.func.grad", "scikit-learn", examples.FLOOR),
        *("descend, compiled", "descend, vectors", "descend, autograd", "descend, tape"),
    }
    # A tenth and two thirds of what a quiet machine shows.
    assert float(rows["descend, compiled"]["ratio"]) >= 40
    assert float(rows["descend, vectors"]["ratio"]) >= 6
    assert all(float(row["floors"]) > 0 for row in rows.values())
