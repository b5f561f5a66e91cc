"""Which verifier finds which planted fault: this package's check, gradcheck, gradgradcheck and opcheck.

Each is given the same sample, the one that a user would write, and its defaults. What it says of a planted
fault is a hit; what it says of the correct twin is a false alarm. Of a fault that hangs or ends the process
a verifier says nothing unless it outlives it.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.autograd import Function, gradcheck, gradgradcheck

from experiments.marked import Marked, machine
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


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, and writes it between the marks of this name in a file.

    Returns:
        0, or 2 where the zoo cannot be found.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments verifiers", description=__doc__)
    parser.add_argument("--each", action="store_true", help="One line a planted fault too.")
    marked = partial(Marked, name="verifiers")
    parser.add_argument("--write", type=marked, metavar="README.md", help="Put the table there.")
    options = parser.parse_args(arguments)
    try:
        from tests.zoo import ZOO
    except ImportError:
        sys.stderr.write("verifiers: no planted faults here; start it in a checkout, where tests/zoo is\n")
        return 2
    console = Console()
    results = run(ZOO, console)
    if options.each:
        console.print(_each(results))
    console.print(_table(results))
    if options.write:
        options.write.write(f"{markdown(results)}\n\n{machine()}")
    return 0


Results = dict["Plant", dict[str, tuple[Verdict, Verdict]]]


def run(zoo: tuple[Plant, ...], console: Console) -> Results:
    """Every verifier's verdicts on the fault and on the twin of every plant."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            plant: {
                name: (
                    _timed(verifier, plant, plant.faulty, f"faulty{number}"),
                    _timed(verifier, plant, plant.correct, f"correct{number}"),
                )
                for name, verifier in VERIFIERS.items()
            }
            for number, plant in track(list(enumerate(zoo)), "Verifying", console=console, transient=True)
        }


def markdown(results: Results) -> str:
    """The table for the README."""
    rows = [" | ".join(row) for row in _rows(results)]
    rule = " | ".join("---" for _ in COLUMNS)
    return "\n".join(f"| {row} |" for row in (" | ".join(COLUMNS), rule, *rows))


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


def _rows(results: Results) -> list[tuple[str, ...]]:
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


def _table(results: Results) -> Table:
    table = Table(
        title="Planted faults and their correct twins", title_justify="left", box=None, pad_edge=False
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "verifier" else "right")
    for row in _rows(results):
        table.add_row(*row)
    return table


def _each(results: Results) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("fault", "planted as", *VERIFIERS):
        table.add_column(column)
    for plant, verdicts in results.items():
        table.add_row(plant.fault, plant.name, *(_word(*verdicts[name]) for name in VERIFIERS))
    return table


def _word(faulty: Verdict, twin: Verdict) -> str:
    return ("found" if faulty.complained else "") + (" false alarm" if twin.complained else "")


if __name__ == "__main__":
    sys.exit(main())
