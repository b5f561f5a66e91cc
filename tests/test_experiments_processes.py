"""Two processes that train together come to what one comes to; and what is said when they cannot."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import cli, processes
from experiments.catalogue import options_of
from experiments.configuration import build
from experiments.data import module
from experiments.data.module import Order
from experiments.run import Run, RunError
from tests.processes import PROCESSES

PARALLEL = {"trainer.devices": 2, "trainer.strategy": "ddp"}


@pytest.fixture(autouse=True)
def _elsewhere(signals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_of(**given: Any) -> Run:
    return Run.create("compare", "runs", build(options_of("compare"), given | PARALLEL))


def outcomes(out: str) -> dict[str, Any]:
    (state,) = Path(out).glob("compare/*/state.json")
    return json.loads(state.read_text())["outcomes"]


COMPARE = [
    *("compare", "--data", "diabetes", "--model", "linear", "--epochs", "2", "--accelerator", "cpu"),
    *("--variants", "batch,mini-batch", "--batch-size", "8,32"),
    # At a rate of 30 the regression diverges.
    *("--lr", "batch=0.1,mini-batch-8=30,mini-batch-32=0.1"),
]
DDP = ["--trainer.strategy", "ddp"]


def compared(out: str, *more: str) -> dict[str, Any]:
    assert cli.main([*COMPARE, "--out", out, *more]) == 0
    return outcomes(out)


def test_two_processes_make_the_updates_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one = compared("one")
    two = compared("two", *DDP, "--trainer.devices", "2")
    check_same(two, one)
    assert two["mini-batch-8"]["last_finite_update"] is not None
    assert two["mini-batch-32"]["score"] == pytest.approx(one["mini-batch-32"]["score"], rel=1e-5)
    (folder,) = Path("two/compare").glob("*")
    assert (folder / "report.html").exists()
    assert (folder / "process-1.txt").read_text() == ""
    with (folder / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == sum(len(each["points"]) for each in two.values())
    check_same(on_two_machines(monkeypatch), one)


def on_two_machines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two processes that know of each other what torchrun tells them on two machines."""
    arguments = [*COMPARE, "--out", "nodes", *DDP, "--trainer.num_nodes", "2"]
    port = str(processes._free_port())
    meeting = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    elastic = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "1"}
    first, second = ({**meeting, **elastic, "RANK": rank, "GROUP_RANK": rank} for rank in "01")
    other = PROCESSES.Process(target=follow, args=(second, arguments, "second.txt"))
    other.start()
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert cli.main(arguments) == 0
    other.join()
    assert (other.exitcode, Path("second.txt").read_text()) == (0, "")
    return outcomes("nodes")


def check_same(found: dict[str, Any], one: dict[str, Any]) -> None:
    assert one.keys() == found.keys()
    for name, expected in one.items():
        seen = found[name]
        for each in ("start", "orders", "finished", "last_finite_update", "lr"):
            assert seen[each] == expected[each]
        assert len(seen["points"]) == len(expected["points"])
        for a, b in zip(seen["points"], expected["points"], strict=True):
            assert (a["updates"], a["examples"]) == (b["updates"], b["examples"])
            for quantity in ("cost", "validation_cost", "validation_score"):
                assert a[quantity] == pytest.approx(b[quantity], rel=1e-5)


THEORY = {
    # At a rate of 30 mini-batch descent diverges, and all processes go on to the next rate.
    "learning_rate": ["--updates", "12", "--lowest", "0.1", "--highest", "30", "--per_decade", "1"],
    "convergence": ["--updates", "40"],
    "trajectory": ["--epochs", "1", "--points", "10", "--grid", "10", "--batch_size", "64"],
}


class Forked:
    """A process that follows, as `subprocess` would have it, without the seconds that imports take."""

    def __init__(self, name: str, run: Run, rank: int) -> None:
        variables = {**os.environ, "LOCAL_RANK": str(rank)}
        arguments = [name, "--resume", str(run.folder.resolve())]
        log = str((run.folder / f"process-{rank}.txt").resolve())
        self.process: Any = PROCESSES.Process(target=follow, args=(variables, arguments, log))
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> None:
        self.process.join()


def follow(variables: dict[str, str], arguments: list[str], log: str) -> None:
    os.environ.update(variables)
    with open(log, "w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(cli.main(arguments))


@pytest.mark.parametrize("name", THEORY)
def test_two_processes_come_to_the_figures_of_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_follower", Forked)
    options = [name, "--problems", "quadratic", "--accelerator", "cpu", *THEORY[name]]
    if name == "learning_rate":
        options += ["--variants", "batch,mini-batch", "--repeats", "1"]
    assert cli.main([*options, "--out", "one"]) == 0
    assert cli.main([*options, "--out", "two", "--trainer.strategy", "ddp", "--trainer.devices", "2"]) == 0
    tables = []
    for out in ("one", "two"):
        (folder,) = Path(out, name).iterdir()
        assert (folder / "report.html").exists()
        with (folder / "metrics.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    assert (folder / "process-1.txt").read_text() == ""
    assert len(tables[0]) == len(tables[1]) > 5
    for one, two in zip(*tables, strict=True):
        for key, value in one.items():
            expected = pytest.approx(float(value), rel=1e-9, abs=1e-12) if _number(value) else value
            assert (float(two[key]) if _number(value) else two[key]) == expected


def _number(text: str) -> bool:
    return text not in ("", "quadratic", "batch", "stochastic", "mini-batch")


def test_the_order_is_dealt_out_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    def served(rank: int, count: int) -> list[list[int]]:
        monkeypatch.setattr(module, "place", lambda: (rank, count))
        return list(Order(7, 3, 0))

    whole, parts = served(0, 1), [served(rank, 2) for rank in range(2)]
    for window, first, second in zip(whole, *parts, strict=True):
        assert first == window[::2]
        assert second == window[1::2]


def test_a_process_that_follows_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    run = run_of()
    run.write("note.txt", "")
    run.write_rows("rows.csv", ("a",), [])
    run.save_state({})
    assert not Path("runs").exists()
    monkeypatch.setenv("RANK", "0")
    assert run.leads


def test_several_machines_need_a_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--trainer.num_nodes", "2", "--data", "iris", "--model", "linear"]) == 2
    assert "use torchrun --nnodes 2 --nproc_per_node 1" in capsys.readouterr().err


def test_more_processes_than_a_machine_bears_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", *DDP, "--trainer.devices", "9999"])
    assert "--trainer.devices: '9999' is no whole number from 1 to" in capsys.readouterr().err


def test_a_failed_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of()

    def follower(name: str, run: Run, rank: int) -> Any:
        (run.folder / f"process-{rank}.txt").write_text("Traceback\nRuntimeError: no device\n\n")
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr(processes, "_follower", follower)
    with (
        pytest.raises(RunError, match="process 1 has failed: RuntimeError: no device"),
        processes.together("compare", run),
    ):
        raise RuntimeError("connection closed by peer")
