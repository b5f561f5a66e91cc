"""``fit``, ``validate`` and ``test``: Lightning's own command line on the experiments' models and data."""

import argparse
import sys
from itertools import pairwise
from typing import Any, NoReturn

from experiments.catalogue import PROGRAM
from experiments.options import READS, DataOptions, LearnerOptions, ModelOptions, data_set, listing, one_of
from experiments.parser import rewrite
from experiments.run import RunError

# What Lightning finds a checkpoint by itself under.
FOUND = ("best", "last", "hpc")


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

    Raises:
        RunError: If a checkpoint or data cannot be used, or the training diverges.
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
    from experiments.model.learner import Diverged, Learner
    from torch_backprop import optim  # noqa: F401  its optimizers are known to --optimizer by their names

    class Parser(LightningArgumentParser):
        def error(self, message: str, *_: Any, **__: Any) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
            sys.stderr.write(f"{PROGRAM} {command}: {' '.join(message.split())}\n")
            sys.exit(2)

    class CommandLine(LightningCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            for name in ("shape", "outputs", "regression"):
                parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

        def _parse_ckpt_path(self) -> None:
            # Called before all else, and would raise whatever unpickling does.
            path = self.config[command].ckpt_path
            self.kept = _state(path) if path and path not in FOUND else None
            super()._parse_ckpt_path()

        def instantiate_classes(self) -> None:
            given = self.config[command]
            _match(given.model.name, given.data.name)
            super().instantiate_classes()
            mine = {name: values.shape for name, values in self.model.state_dict().items()}
            if self.kept not in (None, mine):
                raise RunError(
                    f"--ckpt_path: {given.ckpt_path!r} is of another model; give the options of its own."
                )

    options: Any = {"parser_class": Parser, "save_config_kwargs": {"overwrite": True}}
    # The order deals the rows out to the processes itself.
    try:
        CommandLine(Learner, Data, trainer_defaults={"use_distributed_sampler": False}, **options)
    except Diverged as error:
        raise RunError(f"{error}; give a smaller --optimizer.lr.") from error


def _match(model: str, data: str) -> None:
    try:
        LearnerOptions(model=ModelOptions(name=model), data=DataOptions(name=data)).check()
    except argparse.ArgumentTypeError as error:
        raise RunError(f"{error}.") from error


def _state(path: str) -> dict[str, Any]:
    """Return the shapes of a checkpoint's parameters.

    Raises:
        RunError: If it is none.
    """
    import torch

    try:
        kept = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
        return {name: values.shape for name, values in kept.items()}
    except OSError as error:
        raise RunError(f"--ckpt_path: {path!r} cannot be read: {error.strerror or error}.") from error
    # Unpickling what is no checkpoint can raise anything at all.
    except Exception as error:
        raise RunError(f"--ckpt_path: {path!r} is no checkpoint ({type(error).__name__}).") from error
