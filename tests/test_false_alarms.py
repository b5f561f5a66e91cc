"""What is right is not flagged: torch's functions against themselves, and against plain operators.

Written with plain operators, a function may really differ from the built-in: at a kink, at an infinity, in
half precision. ``DIFFERENCES`` lists every such difference; anything else is a false alarm.
"""

import pytest
import torch

from tests.plain import TWINS, Twin
from torch_backprop.verify import check

DIFFERENCES: dict[str, set[str]] = {}

each_twin = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_at_least_80_functions():
    assert len({twin.name for twin in TWINS}) == len(TWINS) >= 80


@each_twin
def test_a_builtin_equals_itself(twin: Twin):
    report = check(twin.builtin, *twin.sample(), reference=twin.builtin, isolate=False)
    assert not report.findings, str(report)


@each_twin
def test_plain_operators_differ_only_as_explained(twin: Twin):
    report = check(twin.plain, *twin.sample(), reference=twin.builtin, isolate=False)
    assert {finding.fault for finding in report.findings} == DIFFERENCES.get(twin.name, set()), str(report)
