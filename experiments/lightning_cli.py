"""``fit``, ``validate`` and ``test``: Lightning's own command line on the experiments' models and data."""

import argparse
import sys
from itertools import pairwise
from typing import Any, NoReturn

from experiments.catalogue import PROGRAM
from experiments.options import READS, data_set, listing, one_of
from experiments.parser import rewrite


def optimizer(text: str) -> str:
    """Accept an optimizer of this package or of PyTorch, and any path with a dot."""
    import torch

    from torch_backprop import optim

    if "." in text or hasattr(optim, text) or hasattr(torch.optim, text):
        return text
    own = [name for name in optim.__all__ if name.endswith("GD")]
    raise argparse.ArgumentTypeError(f"{text!r} is unknown; choose {listing([*own, 'one of torch.optim'])}")


CHECKED = {"--model.name": one_of(READS), "--data.name": data_set, "--optimizer": optimizer}


def main(arguments: list[str]) -> int:
    """Run the command line, which leaves the process itself where an option is wrong.

    Returns:
        0, or 2 where a model or data are unknown.
    """
    given = rewrite(arguments, ())
    # Before the seconds that Lightning takes to come.
    for name, value in pairwise(given):
        try:
            CHECKED.get(name, str)(value)
        except argparse.ArgumentTypeError as error:
            short = name.removesuffix(".name")
            sys.stderr.write(f"{PROGRAM} {arguments[0]}: {short}: {error}\n")
            return 2
    sys.argv[1:] = given
    _start(arguments[0])
    return 0


def _start(command: str) -> None:
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    from experiments.data.module import Data
    from experiments.model.learner import Learner
    from torch_backprop import optim  # noqa: F401  its optimizers are known to --optimizer by their names

    class Parser(LightningArgumentParser):
        def error(self, message: str, *_: Any, **__: Any) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
            sys.stderr.write(f"{PROGRAM} {command}: {' '.join(message.split())}\n")
            sys.exit(2)

    class CommandLine(LightningCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            for name in ("shape", "outputs", "regression"):
                parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    options: Any = {"parser_class": Parser, "save_config_kwargs": {"overwrite": True}}
    # The order deals the rows out to the processes itself.
    CommandLine(Learner, Data, trainer_defaults={"use_distributed_sampler": False}, **options)
