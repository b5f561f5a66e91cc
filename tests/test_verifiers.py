"""The experiment that compares verifiers: it counts hits and false alarms, and writes the README's table."""

import pytest

from experiments import cli
from experiments.marked import markdown
from experiments.verifiers import contest
from tests.zoo import ZOO

NAMES = ("cube without its factor 3", "cotangent squared", "death in backward", "no None for the exponent")
FEW = tuple(plant for plant in ZOO if plant.name in NAMES)


@pytest.fixture(scope="module")
def table() -> list[str]:
    found = {plant: contest.verdicts(plant, i) for i, plant in enumerate(FEW)}
    return markdown(contest.COLUMNS, contest.rows_of(found)).splitlines()


def test_the_table_is_markdown_with_one_line_a_verifier(table: list[str]):
    assert table[0] == "| verifier | faults found | by name | false alarms | seconds |"
    assert len(table) == 2 + len(contest.VERIFIERS) + 1


def test_a_fault_that_gradcheck_cannot_see_is_counted(table: list[str]):
    assert "| torch_backprop.verify.check | 4 of 4 | 4 of 4 | 0 of 4 |" in table[2]
    assert "| gradcheck | 2 of 4 |  | 0 of 4 |" in table[3]


def test_the_run_leaves_a_report_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)
    options = ["--only", "cube without its factor 3", "--out", str(tmp_path)]
    assert cli.main(["verifiers", *options]) == 0
    (run,) = (tmp_path / "verifiers").iterdir()
    assert "finds 1 of 1 planted faults" in capsys.readouterr().out
    assert "Fault by fault" in (run / "report.html").read_text()
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + len(contest.VERIFIERS)
    monkeypatch.setattr("experiments.verifiers.experiment.verdicts", None)
    assert cli.main(["verifiers", "--resume", str(run)]) == 0
