"""Options from the command line and from YAML files, by jsonargparse; a complaint is one line."""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import jsonargparse
import yaml

from experiments.configuration import build, flat, plain
from experiments.options import Options, folder, listing

ALIASES = {
    "--model": "--model.name",
    "--data": "--data.name",
    "--accelerator": "--trainer.accelerator",
}


class Plain(argparse.HelpFormatter):
    """Help without the names of functions that read the options."""

    def add_usage(self, *_: Any, **__: Any) -> None:
        """Leave out the usage line, which would name every option twice."""


class Parser:
    """Reads the options of one experiment.

    Args:
        program: what was typed to come here.
        description: the sentence over the help.
        options: the experiment's defaults, whose fields say what there is.
    """

    def __init__(self, program: str, description: str, options: Options) -> None:
        self.program, self._kind = program, type(options)
        # Its own print_config would show what was given beside defaults that do not go with it.
        self._parser = jsonargparse.ArgumentParser(
            program,
            description=description,
            formatter_class=Plain,
            exit_on_error=False,
            print_config=None,
        )
        add = self._parser.add_argument
        add(
            "--config",
            action=jsonargparse.ActionConfigFile,  # pyright: ignore[reportPrivateImportUsage]
            metavar="FILE",
            help="Options as a YAML file.",
        )
        for name, default, about in flat(options):
            if isinstance(default, bool):
                add(f"--{name}", action="store_true", help=about["sentence"])
                continue
            shown = "" if default in (None, {}, ()) else f" Default {_text(default)}."
            sentence = about["sentence"] + shown
            add(f"--{name}", type=about["parse"], default=default, metavar=about["metavar"], help=sentence)
        add("--out", type=folder, default="runs", metavar="DIR", help="Folder that gathers the runs.")
        add("--resume", type=folder, metavar="RUN", help="Continue this run from where it was stopped.")
        add("--print_config", action="store_true", help="Print the options as a YAML file, and do no more.")
        # The key by which a run's own config.yaml names what it is a run of.
        add("--experiment", type=str, help=argparse.SUPPRESS)
        self.known = ["--help", *(f"--{action}" for action in self._names())]

    def read(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return what was given, by its flat name."""
        known = [*self.known, *ALIASES, "--text"]
        try:
            # Without the defaults: what was not given must be seen not to be.
            given = self._parser.parse_args(rewrite(arguments, known), defaults=False)
            found = {key: value for key, value in given.items() if value is not None}
            found.pop("config", None)
            if found.pop("print_config", False):
                print(yaml.safe_dump(plain(build(self._kind, found)), sort_keys=False), end="")
                sys.exit(0)
        except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
            self.error(self._reworded(str(error)))
        return found

    def error(self, message: str) -> NoReturn:
        """Print the complaint to stderr and leave with exit code 2."""
        line = " ".join(message.split())
        sys.stderr.write(f"{self.program}: {line}\n")
        sys.exit(2)

    def _names(self) -> list[str]:
        hidden = ("help", "experiment")
        return [action.dest for action in self._parser._actions if action.dest not in hidden]

    def _reworded(self, message: str) -> str:
        """Name the option as it is typed, and the way out where there is none."""
        message = message.removeprefix("argument ")
        unknown = re.match(r"unrecognized arguments: (\S+)|Option '(\S+)' is not accepted", message)
        if unknown:
            name = unknown[1] or f"--{unknown[2]}"
            close = difflib.get_close_matches(name.partition("=")[0], [*self.known, *ALIASES], n=1)
            plain = [name for name in self.known if "." not in name]
            advice = f"did you mean {close[0]}?" if close else f"choose {listing(sorted([*plain, *ALIASES]))}"
            return f"{name}: no such option; {advice}"
        for alias, name in ALIASES.items():
            message = message.replace(f"{name}:", f"{alias}:", 1) if message.startswith(name) else message
        return re.sub(r'^Parser key "([^"]+)":', r"--\1:", message)


def rewrite(arguments: Sequence[str], known: Sequence[str]) -> list[str]:
    """Spell short names out, and glue ``--lr -1e-3`` together, which would be taken for two options.

    >>> rewrite(["--batch-size", "8", "--model", "linear", "--lr", "-1"], ["--lr"])
    ['--batch_size', '8', '--model.name', 'linear', '--lr=-1']
    """
    result: list[str] = []
    for argument in arguments:
        # A misspelt long option stays apart, to be complained about under its own name.
        if argument.startswith("--"):
            result.append(_spelt_out(argument))
        elif argument.startswith("-") and result and result[-1] in known:
            result[-1] += f"={argument}"
        elif result and result[-1] == "--text":
            result[-1:] = ["--data.name", f"text:{argument}"]
        else:
            result.append(argument)
    return result


def _spelt_out(argument: str) -> str:
    name, equals, value = argument.partition("=")
    name = "--" + name[2:].replace("-", "_")
    if name == "--text" and equals:
        return f"--data.name=text:{value}"
    return ALIASES.get(name, name) + equals + value


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
