"""The command line: which experiments there are, and one line for whatever cannot be done."""

import argparse
import difflib
import importlib
import shlex
import sys
from typing import NoReturn

from experiments import interrupt
from experiments.options import Options, accelerator, add_options, listing
from experiments.run import Run, RunError

EXPERIMENTS = {
    "compare": "One model trained by batch, stochastic and mini-batch gradient descent.",
    "benchmark": "Time and memory of every layer against its built-in, or the time of the optimizers.",
    "coverage": "What each layer can do, and what it holds in memory.",
    "verifiers": "Which verifier of backward passes finds which planted fault.",
}
TRAINS = {"compare"}
PROGRAM = "python -m experiments"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint to stderr and leave with exit code 2."""
        sys.stderr.write(f"{self.prog}: {message.removeprefix('argument ')}\n")
        sys.exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment.

    Returns:
        0 when it ended, 2 for bad input or a missing package, 130 when it was interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print(catalogue())
        return 0
    name, *rest = arguments
    if name not in EXPERIMENTS:
        sys.stderr.write(f"{PROGRAM}: {name!r} is no experiment; choose {listing(EXPERIMENTS)}\n")
        return 2
    return _start(name, rest)


def catalogue() -> str:
    """Say what there is, one line each."""
    width = max(map(len, EXPERIMENTS))
    lines = [f"  {name:<{width}}  {sentence}" for name, sentence in EXPERIMENTS.items()]
    return "\n".join([f"{PROGRAM} NAME [options]    (NAME --help lists the options)", "", *lines])


def _start(name: str, arguments: list[str]) -> int:
    run = None
    interrupt.listen()
    try:
        if name not in TRAINS:
            return importlib.import_module(f"experiments.{name}").main(arguments)
        run = _open(name, arguments)
        # Only now, when the options are known to be good, are seconds spent on imports.
        importlib.import_module(f"experiments.{name}").main(run)
    except interrupt.Interrupted:
        hint = (
            f"Resume with: {PROGRAM} {name} --resume {shlex.quote(str(run.folder))}"
            if run
            else "There is nothing to resume."
        )
        sys.stderr.write(f"Interrupted. {hint}\n")
        return 130
    except ModuleNotFoundError as error:
        if error.name in (None, "torch_backprop", "experiments"):
            raise
        sys.stderr.write(f'{error.name} is missing: python -m pip install -e ".[experiments]" has it\n')
        return 2
    return 0


def _open(name: str, arguments: list[str]) -> Run:
    parser = Parser(f"{PROGRAM} {name}", description=EXPERIMENTS[name], allow_abbrev=False)
    parser.argument_default = argparse.SUPPRESS
    add_options(parser)
    # argparse's own complaint about an unknown option names no way out.
    known = list(parser._option_string_actions)
    given, unknown = parser.parse_known_args(_join_negatives(arguments, known))
    if unknown:
        close = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        advice = f"did you mean {close[0]}?" if close else f"choose {listing(sorted(known))}"
        parser.error(f"{unknown[0]}: no such option; {advice}")
    settings = vars(given)
    resume, out = settings.pop("resume", None), settings.pop("out", "runs")
    try:
        if resume is not None:
            run = Run.reopen(name, resume, settings)
            # The machine may be another than the one that the run was begun on.
            accelerator(run.options.accelerator)
            return run
        return Run.create(name, out, Options.of(settings))
    except (RunError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))


def _join_negatives(arguments: list[str], known: list[str]) -> list[str]:
    """Glue ``--lr -1e-3`` together, which argparse would take for two options."""
    joined: list[str] = []
    for argument in arguments:
        # A misspelt long option stays apart, to be complained about under its own name.
        value = argument.startswith("-") and argument.partition("=")[0] not in known
        if value and not argument.startswith("--") and joined and joined[-1] in known:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
