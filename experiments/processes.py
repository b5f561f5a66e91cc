"""Several processes that train together: one leads, and the others follow it from one training to the next.

All do the same, on their own rows of each window, and so come to the same parameters; the one that leads also
writes, and shows, and measures what needs no training. It starts the others itself, unless a launcher such as
torchrun has started them all.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from experiments.interrupt import Interrupted
from experiments.run import Run, RunError

# Seconds that the leader has to write down what it has measured, when a process that follows has failed.
GRACE = 15.0
VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def together(name: str, run: Run) -> Iterator[None]:
    """Let trainings within have all the processes that the run's options ask for.

    Raises:
        RunError: If they ask for several machines without a launcher, or a process that follows has failed.
    """
    trainer = run.options.trainer
    if trainer.devices * trainer.num_nodes == 1:
        yield
        return
    if "LOCAL_RANK" not in os.environ:
        if trainer.num_nodes > 1:
            raise RunError(_advice(name, trainer))
        with _leading(name, run, trainer.devices):
            yield
        return
    if not run.leads:
        # Ctrl-C is the leader's to answer.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        _leave()


@contextmanager
def _leading(name: str, run: Run, count: int) -> Iterator[None]:
    here = "0", "0", str(count), "127.0.0.1", str(_free_port())
    os.environ.update(zip(VARIABLES, here, strict=True))
    followers = [_follower(name, run, rank) for rank in range(1, count)]
    over = Event()
    Thread(target=_watch, args=(followers, over), daemon=True).start()
    try:
        yield
    except (Exception, Interrupted) as error:
        over.set()
        failed = _failed(followers)
        if failed:
            raise RunError(f"process {failed} has failed: {_last_words(run, failed)}") from error
        raise
    finally:
        over.set()
        for follower in followers:
            # It has nothing to write, and may wait in a sum for this process.
            follower.kill()
            follower.wait()
        _leave()
        for variable in VARIABLES:
            os.environ.pop(variable, None)


def _follower(name: str, run: Run, rank: int) -> Any:
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "LOCAL_RANK": str(rank), "PYTHONPATH": path}
    command = [sys.executable, "-m", "experiments", name, "--resume", str(run.folder)]
    nothing = subprocess.DEVNULL
    with _log(run, rank).open("w") as log:
        return subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, stderr=log)


def _watch(followers: Sequence[Any], over: Event) -> None:
    # Who waits for a process that is no more would wait for long.
    while not over.wait(0.5):
        if any(follower.poll() for follower in followers):
            os.kill(os.getpid(), signal.SIGTERM)
            if not over.wait(GRACE):
                sys.stderr.write("A process that follows has failed; what was written before is whole.\n")
                os._exit(1)
            return


def _failed(followers: Sequence[Any]) -> int:
    """Return the rank of a process that has failed, or 0; its end may come after that of its connection."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for rank, follower in enumerate(followers, 1):
            if follower.poll():
                return rank
        time.sleep(0.1)
    return 0


def _last_words(run: Run, rank: int) -> str:
    lines = _log(run, rank).read_text(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it has written nothing")


def _log(run: Run, rank: int) -> Path:
    return run.folder / f"process-{rank}.txt"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _leave() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _advice(name: str, trainer: Any) -> str:
    nodes = f"--nnodes {trainer.num_nodes} --nproc_per_node {trainer.devices}"
    return (
        f"--trainer.num_nodes: {trainer.num_nodes} machines need a launcher on each of them;"
        f" use torchrun {nodes} --rdzv_backend c10d --rdzv_endpoint HOST:PORT -m experiments {name} ..."
    )
