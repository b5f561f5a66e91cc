"""Which verifier finds which planted fault: this package's check, gradcheck, gradgradcheck and opcheck.

Each is given the same sample, the one that a user would write, and its defaults. What it says of a planted
fault is a hit; what it says of the correct twin is a false alarm. Of a fault that hangs or ends the process
a verifier says nothing unless it outlives it.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function, gradcheck, gradgradcheck

from torch_backprop.verify import check
from torch_backprop.verify.faults import CAPABILITY, FAULTS

if TYPE_CHECKING:
    from tests.zoo import Plant

_COMPLAINT = 3
"""The exit status of a process whose verifier complains."""
COLUMNS = ("verifier", "faults found", "by name", "false alarms", "seconds")


@dataclass(frozen=True)
class Verdict:
    """What one verifier said of one candidate: whether it complained, whether by the fault's name."""

    complained: bool
    named: bool = False
    seconds: float = 0.0


Verifier = Callable[["Plant", Any, str], Verdict | bool]


Results = dict["Plant", dict[str, tuple[Verdict, Verdict]]]


def verdicts(plant: Plant, number: int) -> dict[str, tuple[Verdict, Verdict]]:
    """Every verifier's verdicts on the fault and on the twin of one plant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: (
                _timed(verifier, plant, plant.faulty, f"faulty{number}"),
                _timed(verifier, plant, plant.correct, f"correct{number}"),
            )
            for name, verifier in VERIFIERS.items()
        }


def _timed(verifier: Verifier, plant: Plant, candidate: Any, name: str) -> Verdict:
    dtype, start = torch.get_default_dtype(), time.perf_counter()
    try:
        said = verifier(plant, copy.deepcopy(candidate), name)
    finally:
        torch.set_default_dtype(dtype)
    verdict = said if isinstance(said, Verdict) else Verdict(said)
    return Verdict(verdict.complained, verdict.named, time.perf_counter() - start)


def _check(plant: Plant, candidate: Any, _: str) -> Verdict:
    options: dict[str, Any] = {"reference": plant.reference, "isolate": plant.isolate, "limit": plant.limit}
    report = check(candidate, *plant.sample(), **options)
    faults = {finding.fault for finding in report.findings}
    listed = FAULTS[plant.fault].verdict == CAPABILITY and plant.fault in faults
    return Verdict(listed or not report.ok, plant.fault in faults)


def _raises(verify: Callable[..., Any]) -> Verifier:
    def complains(plant: Plant, candidate: Any, _: str) -> bool:
        return _apart(plant, lambda: _complains(verify, _callable(candidate), plant.sample()))

    return complains


def _opcheck(plant: Plant, candidate: Any, name: str) -> bool:
    """opcheck of the Function as a custom operator; silent about what cannot be one."""
    if not isinstance(candidate, type) or candidate.setup_context is Function.setup_context:
        return False

    def complains() -> bool:
        operator = _operator(candidate, name, plant.sample())
        return _complains(torch.library.opcheck, operator, plant.sample())

    return _apart(plant, complains)


def _apart(plant: Plant, complains: Callable[[], bool]) -> bool:
    """Whether a verifier complains; in a process of its own, if the candidate may end that or hang."""
    if not plant.isolate:
        return complains()
    process = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(_COMPLAINT if complains() else 0)
    )
    process.start()
    process.join(plant.limit)
    process.kill()
    process.join()
    return process.exitcode == _COMPLAINT


def _complains(verify: Callable[..., Any], candidate: Any, sample: tuple[Any, ...]) -> bool:
    try:
        verify(candidate, sample)
    except Exception:
        return True
    return False


def _callable(candidate: Any) -> Any:
    return candidate.apply if isinstance(candidate, type) else candidate


def _operator(function: Any, name: str, sample: tuple[Any, ...]) -> Any:
    outputs = function.forward(*(x.detach().clone() if isinstance(x, torch.Tensor) else x for x in sample))
    types = ["Tensor" if isinstance(x, torch.Tensor) else "int" for x in sample]
    arguments = ", ".join(f"{type} x{number}" for number, type in enumerate(types))
    returns = "Tensor" if isinstance(outputs, torch.Tensor) else f"({', '.join('Tensor' for _ in outputs)})"
    operator: Any = torch.library.custom_op(
        f"torch_backprop_zoo::{name}", function.forward, mutates_args=(), schema=f"({arguments}) -> {returns}"
    )
    operator.register_fake(function.forward)
    operator.register_autograd(function.backward, setup_context=function.setup_context)
    return operator


VERIFIERS: dict[str, Verifier] = {
    "torch_backprop.verify.check": _check,
    "gradcheck": _raises(gradcheck),
    "gradgradcheck": _raises(gradgradcheck),
    "opcheck": _opcheck,
}
TOGETHER = ("gradcheck", "gradgradcheck", "opcheck")


def rows_of(results: Results) -> list[tuple[str, ...]]:
    """The cells of the table, a row a verifier."""
    ours = "torch_backprop.verify.check"
    rows = [_row(results, name, (name,)) for name in VERIFIERS]
    rows.append(_row(results, "the last three together", TOGETHER))
    named = sum(verdicts[ours][0].named for verdicts in results.values())
    return [
        (row[0], row[1], f"{named} of {len(results)}" if row[0] == ours else "", *row[2:]) for row in rows
    ]


def _row(results: Results, label: str, names: tuple[str, ...]) -> tuple[str, ...]:
    found = sum(any(verdicts[name][0].complained for name in names) for verdicts in results.values())
    alarms = sum(any(verdicts[name][1].complained for name in names) for verdicts in results.values())
    seconds = sum(
        verdict.seconds for verdicts in results.values() for name in names for verdict in verdicts[name]
    )
    return label, f"{found} of {len(results)}", f"{alarms} of {len(results)}", f"{seconds:.0f}"
