"""Every planted fault is found under its name; no correct twin is flagged.

What concerns compiling is compiled, which takes as long as all other probes together; the experiment
``verifiers`` compiles them all.
"""

from typing import Any

import pytest
import torch

from tests.zoo import PUBLIC, ZOO, Plant
from torch_backprop.verify import check
from torch_backprop.verify.faults import CAPABILITY, FAULTS

each_plant = pytest.mark.parametrize("plant", ZOO, ids=lambda plant: plant.name)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def compiled(plant: Plant) -> bool:
    return "compile" in plant.fault


def test_at_least_60_plants_with_names_of_their_own():
    assert len({plant.name for plant in ZOO}) == len(ZOO) >= 60


def test_every_class_of_faults_is_planted():
    assert {plant.fault for plant in ZOO} == FAULTS.keys()


def test_what_happened_in_public_is_planted():
    assert len(PUBLIC) >= 60
    assert set(PUBLIC.values()) <= {plant.name for plant in ZOO}


@each_plant
def test_a_planted_fault_is_found_under_its_name(plant: Plant):
    options: dict[str, Any] = {"isolate": plant.isolate, "limit": plant.limit, "compile": compiled(plant)}
    report = check(plant.faulty, *plant.sample(), reference=plant.reference, **options)
    assert plant.fault in {finding.fault for finding in report.findings}, str(report)
    assert report.ok == (FAULTS[plant.fault].verdict == CAPABILITY)


@each_plant
def test_a_correct_twin_is_not_flagged(plant: Plant):
    report = check(
        plant.correct, *plant.sample(), reference=plant.reference, isolate=False, compile=compiled(plant)
    )
    assert report.ok, str(report)
    assert plant.fault not in {finding.fault for finding in report.findings}
