"""Time and memory of the layers, or the time of the optimizers, as ratios to what PyTorch has."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from experiments import benchmark_optimizers
from experiments.benchmark_layers import Measurement, chosen, measure, table, write_csv
from experiments.marked import machine
from torch_backprop.spec import LayerSpec

SECONDS, QUICK = 1.0, 0.1
"""For each layer."""

METHOD = (
    "Ratios to torch.nn, in {}, a million elements or more: of the least processor time of a forward and a "
    "backward pass, both layers in turns in one process, and of the bytes held between the passes."
)


def main(arguments: list[str] | None = None) -> int:
    """Measures the layers, or the optimizers, and prints the table.

    Returns:
        0, or 2 where no layer or no case is meant.
    """
    options = _parser().parse_args(arguments)
    if options.optimizers:
        return benchmark_optimizers.main(options.only, options.quick, options.csv)
    specs = chosen(options.only)
    if not specs:
        sys.stderr.write(f"benchmark: --only: {options.only!r} is the name of no layer\n")
        return 2
    # two threads on shared cores measure one another
    torch.set_num_threads(1)
    console = Console()
    measured = list(_measured(specs, options, console))
    console.print(table(measured))
    console.print(f"[dim]{METHOD.format(options.dtype)} {machine()}[/]")
    if options.csv:
        write_csv(measured, options.csv)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments benchmark", description=__doc__)
    add = parser.add_argument
    add("--optimizers", action="store_true", help="the optimizers against a plain loop, not the layers")
    add("--only", default="*", metavar="PATTERN", help="layers by name, as in 'Conv*' (default: all)")
    add("--quick", action="store_true", help="a tenth of the time, and less certain")
    add(
        "--compiled",
        action="store_true",
        help="compiled by Inductor, which takes seconds for each layer",
    )
    add("--dtype", default="float32", choices=("float32", "float64", "bfloat16"), help="(default: float32)")
    add("--csv", type=Path, metavar="FILE", help="write the figures there, a line a layer or a case")
    return parser


def _measured(specs: list[LayerSpec], options: argparse.Namespace, console: Console) -> Iterator[Measurement]:
    seconds = QUICK if options.quick else SECONDS
    for spec in track(specs, "Measuring", console=console, transient=True):
        yield measure(spec, seconds, options.compiled, getattr(torch, options.dtype))
