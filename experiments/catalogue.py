"""What there is to run: an experiment is a row here, and a package of its name.

``experiments/NAME/options.py`` has its `Options`, without torch, and ``experiments/NAME/experiment.py`` has
``main(run)``.
"""

import importlib
from typing import Any

PROGRAM = "python -m experiments"
EXPERIMENTS = {
    "compare": "One model trained by batch, stochastic and mini-batch gradient descent.",
    "learning_rate": "The cost against the learning rate, where each variant diverges, and the sharpness.",
    "convergence": "Batch descent to the minimum of three costs, beside the rate that theory gives.",
    "complexity": "Time, operations and memory of both passes against every size; nothing is trained.",
    "trajectory": "The paths of the three variants over the contours of a cost.",
    "trace": "One pass of backpropagation over a digit, layer by layer, with autograd's beside it.",
    "sweep": "Many trainings over variants, rates, batch sizes and seeds, in parallel processes.",
    "take_away": "A training step exported to a file, which trains in a process without this package.",
    "benchmark": "Time and memory of every layer against its built-in, or the time of the optimizers.",
    "coverage": "What each layer can do, and what it holds in memory.",
    "verifiers": "Which verifier of backward passes finds which planted fault.",
}
COMMANDS = {
    "fit": "Train, by Lightning's own command line, on the same models and data; also validate and test.",
    "list": "This list.",
    "open": "Print the path of a run's report: open RUN.",
    "report": "Compare any runs on one page: report RUN [RUN ...].",
}


def catalogue() -> str:
    """Say what there is, one line each."""
    width = max(map(len, [*EXPERIMENTS, *COMMANDS]))
    rows = [
        [f"  {name:<{width}}  {text}" for name, text in group.items()] for group in (EXPERIMENTS, COMMANDS)
    ]
    head = f"{PROGRAM} NAME [options]    (NAME --help lists the options)"
    return "\n".join([head, "", *rows[0], "", *rows[1]])


def options_of(name: str) -> Any:
    """Return the class of an experiment's options."""
    return importlib.import_module(f"experiments.{name}.options").Options


def main_of(name: str) -> Any:
    """Return what runs an experiment: it takes the run."""
    return importlib.import_module(f"experiments.{name}.experiment").main
