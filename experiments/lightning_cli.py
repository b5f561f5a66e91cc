"""``fit``, ``validate`` and ``test``: Lightning's own command line on the models and data of the experiments."""

import sys
from pathlib import Path

from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from experiments.data.module import Data
from experiments.model.learner import Learner
from experiments.parser import rewrite
from torch_backprop import optim  # noqa: F401  its optimizers are known to --optimizer by their names


class CommandLine(LightningCLI):
    """Tells the model what the data look like."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the model's shape, outputs and task from the data."""
        for name in ("shape", "outputs", "regression"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")


def main(arguments: list[str]) -> int:
    """Run the command line, which leaves the process itself where an option is wrong.

    Returns:
        0.
    """
    given: ArgsType = rewrite(arguments, ())
    # It takes the program's name for its help from there.
    sys.argv[0] = str(Path(sys.argv[0]).parent.name or "experiments")
    CommandLine(Learner, Data, args=given, save_config_kwargs={"overwrite": True})
    return 0
