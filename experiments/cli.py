"""The command line: starts an experiment or a command, and has one line for whatever cannot be done."""

import argparse
import errno
import shlex
import sys
import threading

from experiments import interrupt
from experiments.catalogue import COMMANDS, EXPERIMENTS, PROGRAM, catalogue, main_of, options_of
from experiments.configuration import build
from experiments.options import listing
from experiments.run import Run, RunError

LIGHTNING = ("fit", "validate", "test")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG)


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment or command.

    Returns:
        0 when it ended, 1 for a run that cannot go on, 2 for bad input or a missing package, 130 when it was
        interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print(catalogue())
        return 0
    name, *rest = arguments
    if name not in (*EXPERIMENTS, *LIGHTNING, *COMMANDS):
        choice = listing([*EXPERIMENTS, *COMMANDS])
        sys.stderr.write(f"{PROGRAM}: {name!r} is no experiment; choose {choice}\n")
        return 2
    interrupt.listen()
    run = None
    try:
        if name not in EXPERIMENTS:
            return _command(name, rest)
        run = _open(name, rest)
        # Only now, when the options are known to be good, are seconds spent on imports.
        main_of(name)(run)
    except interrupt.Interrupted:
        sys.stderr.write(f"Interrupted. {_resume(name, run)}\n")
        return 130
    except (RunError, OSError, ModuleNotFoundError) as error:
        complaint = _complaint(error)
        # What was refused before anything was measured has nothing to resume.
        begun = run is not None and not (isinstance(error, RunError) and run.discard())
        hint = f" {_resume(name, run)}" if begun else ""
        sys.stderr.write(f"{PROGRAM} {name}: {complaint}{hint}\n")
        return 1 if begun and not isinstance(error, ModuleNotFoundError) else 2
    return 0


def in_thread(failure: threading.ExceptHookArgs) -> None:
    """Leave it to the main thread to say that nothing can be written, as it will when it writes next."""
    if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in FULL):
        threading.__excepthook__(failure)


def _command(name: str, arguments: list[str]) -> int:
    if name in LIGHTNING:
        from experiments import lightning_cli

        return lightning_cli.main([name, *arguments])
    from experiments import runs

    return {"open": runs.open_run, "report": runs.report}[name](arguments)


def _open(name: str, arguments: list[str]) -> Run:
    # Only here, so that the list of experiments needs no package at all.
    from experiments.parser import Parser

    kind = options_of(name)
    parser = Parser(f"{PROGRAM} {name}", EXPERIMENTS[name], kind())
    given = parser.read(arguments)
    resume, out, own = (given.pop(key, None) for key in ("resume", "out", "experiment"))
    try:
        if own not in (None, name):
            raise RunError(f"--config: is of a run of {own}; use {PROGRAM} {own}")
        if resume is not None:
            return Run.reopen(name, kind, resume, given)
        return Run.create(name, out or "runs", build(kind, given))
    except (RunError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))


def _resume(name: str, run: Run | None) -> str:
    # Stopped while its options were read, or of a command that keeps no run.
    if run is None:
        return "There is nothing to resume."
    return f"Resume with: {PROGRAM} {name} --resume {shlex.quote(str(run.folder))}"


def _complaint(error: Exception) -> str:
    """Say in a line what an error means to whoever started the experiment.

    Raises:
        Exception: The error itself, where it is none that a person can mend.
    """
    if isinstance(error, ModuleNotFoundError):
        # Our own are never missing: that is a fault, to be seen whole.
        if error.name in (None, "torch_backprop", "experiments"):
            raise error
        return f'{error.name} is missing: python -m pip install -e ".[experiments]" has it.'
    if isinstance(error, OSError):
        if error.errno not in FULL:
            raise error
        where = f" ({error.filename})" if error.filename else ""
        return f"nothing can be written: {error.strerror}{where}; what was written before is whole."
    return f"{error}"
