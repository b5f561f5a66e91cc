"""The experiment that compares verifiers: it counts hits and false alarms, and writes the README's table."""

import pytest
from rich.console import Console

from experiments import verifiers
from tests.zoo import ZOO

NAMES = ("cube without its factor 3", "cotangent squared", "death in backward", "no None for the exponent")
FEW = tuple(plant for plant in ZOO if plant.name in NAMES)


@pytest.fixture(scope="module")
def table() -> list[str]:
    return verifiers.markdown(verifiers.run(FEW, Console(quiet=True))).splitlines()


def test_the_table_is_markdown_with_one_line_a_verifier(table: list[str]):
    assert table[0] == "| verifier | faults found | by name | false alarms | seconds |"
    assert len(table) == 2 + len(verifiers.VERIFIERS) + 1


def test_a_fault_that_gradcheck_cannot_see_is_counted(table: list[str]):
    assert "| torch_backprop.verify.check | 4 of 4 | 4 of 4 | 0 of 4 |" in table[2]
    assert "| gradcheck | 2 of 4 |  | 0 of 4 |" in table[3]
