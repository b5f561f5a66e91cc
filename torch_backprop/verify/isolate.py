"""Runs the steps in a process of their own, so that a candidate may hang or kill it.

The child is a fork, which needs no pickling of lambdas, on one thread, since a fork inherits no thread pool.
It tells what it is about to do before it does it, in shared memory, and sends findings as they come; if it
dies, the step that killed it is known, and another child goes on after that.
"""

from __future__ import annotations

import gc
import importlib
import mmap
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from .examine import Step, examine
from .faults import FAULTS
from .finding import Finding
from .sample import GIVEN
from .trial import Note, Trial

_DEATHS = 5
"""Children that may die before the rest is given up."""
_LATE = (
    "torch._dynamo",
    "torch.fx.experimental.symbolic_shapes",
    "torch._decomp.decompositions_for_jvp",
    "torch._functorch.aot_autograd",
    "torch._dynamo.backends.debugging",
)
"""Modules that torch imports where compile, forward mode or torch.func first need them."""
_CANDIDATE, _REFERENCE = 0, 1


Prepare = Callable[[Note], tuple[Trial, list[Step]]]


def can_fork(tensors: Iterable[Tensor]) -> bool:
    """Whether a fork can do the work: not on CUDA, whose state it would share, nor where it is unsafe."""
    return all(x.device.type == "cpu" for x in tensors) and hasattr(os, "fork") and sys.platform != "darwin"


def preload(quick: bool) -> None:
    """Imports what torch imports late, once here rather than a second in every child.

    A quick check compiles nothing, but a second derivative through an absolute value asks for Dynamo, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LATE[:1] if quick else _LATE:
            importlib.import_module(name)


def isolated(prepare: Prepare, limit: float, note: Note) -> Iterator[Finding]:
    """As :func:`torch_backprop.verify.examine.examine`, whatever the candidate does to its process.

    Args:
        prepare: makes the trial and its steps; runs the candidate, and so runs in the child.
        limit: seconds in all.
        note: hears what could not be judged.

    Raises:
        Exception: what ``prepare`` raises.
    """
    deadline = time.monotonic() + limit
    known: set[str] = set()
    start, at = 0, ("", "")
    for _ in range(_DEATHS):
        child = _Child(prepare, start, known)
        for kind, item in child.messages(deadline):
            if kind == "error":
                raise item
            if kind == "note":
                note(item)
            elif item.fault not in known:
                known.add(item.fault)
                yield item
        if child.finished:
            return
        if child.who == _REFERENCE:
            note(f"the reference does not survive the sample {child.at()[1]}")
        elif (last := child.last_words(limit)).fault not in known:
            known.add(last.fault)
            yield last
        if child.hung or not child.planned:
            return
        start, at = child.number + 1, child.at()
    note(f"{_DEATHS} processes ended: nothing was looked at beyond the probe {at[0]} on the sample {at[1]}")


class _Child:
    """A fork at work on the steps from ``start``."""

    def __init__(self, prepare: Prepare, start: int, known: set[str]) -> None:
        self.finished = self.hung = self._died = False
        self._plan: list[tuple[str, str]] = []
        self._status = 0
        self._shared = mmap.mmap(-1, 8)
        self._read, write = multiprocessing.Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if not self._pid:
            _work(prepare, start, known, write, self._shared)
        write.close()

    def messages(self, deadline: float) -> Iterator[tuple[str, Any]]:
        """What the child sends, until it ends or the time is over."""
        try:
            while not self.finished:
                if not self._read.poll(max(0.0, deadline - time.monotonic())):
                    self.hung = True
                    break
                kind, item = self._read.recv()
                if kind == "plan":
                    self._plan = item
                self.finished = kind == "end"
                if kind in ("finding", "note", "error"):
                    yield kind, item
        except EOFError:
            self._died = True
        finally:
            self._end()

    def _end(self) -> None:
        if not (self.finished or self._died):
            os.kill(self._pid, signal.SIGKILL)
        self._status = os.waitpid(self._pid, 0)[1]

    @property
    def planned(self) -> bool:
        """Whether it lived to plan its steps; if not, neither would another."""
        return bool(self._plan)

    @property
    def number(self) -> int:
        """The step that it was taking."""
        return int.from_bytes(self._shared[:4], "little")

    @property
    def who(self) -> int:
        """Who was running."""
        return self._shared[4]

    def at(self) -> tuple[str, str]:
        """Probe and sample of that step."""
        return self._plan[self.number] if self._plan else ("preparation", GIVEN)

    def last_words(self, limit: float) -> Finding:
        """The finding that its end is."""
        probe, sample = self.at()
        fault = "hangs" if self.hung else "kills-process"
        died = os.WTERMSIG(self._status) if os.WIFSIGNALED(self._status) else 0
        ending = signal.Signals(died).name if died else f"exit status {os.WEXITSTATUS(self._status)}"
        seen = f"no end within {limit:g} s" if self.hung else f"the process dies: {ending}"
        words = f"while the probe {probe} ran"
        return Finding(fault, FAULTS[fault].verdict, probe, seen, "it returns", words, sample, "")


def _work(prepare: Prepare, start: int, known: set[str], write: Connection, shared: mmap.mmap) -> None:
    """The child's whole life. It ends without the parent's exit handlers, buffers and test reports."""

    def tell(number: int) -> None:
        shared[:5] = (start + number).to_bytes(4, "little") + bytes([_CANDIDATE])

    def mark(who: str) -> None:
        shared[4] = _REFERENCE if who == "reference" else _CANDIDATE

    status = 1
    # what it has inherited, and does not own, is not worth a walk, which would copy every page of it
    gc.freeze()
    try:
        torch.set_num_threads(1)
        trial, steps = prepare(lambda words: write.send(("note", words)))
        write.send(("plan", [(step.probe.name, step.sample.name) for step in steps]))
        trial = replace(trial, mark=mark)
        for finding in examine(trial, steps[start:], tell, known):
            write.send(("finding", finding))
        write.send(("end", None))
        status = 0
    except (TypeError, ValueError) as error:
        write.send(("error", error))
    finally:
        os._exit(status)
