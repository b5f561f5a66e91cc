"""Export a training step whole, and train from the file in a process that does not have this package."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from experiments.figure import MARKERS, SERIES, sketch
from experiments.page import legend, name, section, wide
from experiments.run import Run
from experiments.study import Account, Piece, Progress, study
from experiments.take_away.device import DECAY
from experiments.take_away.options import Options
from torch_backprop import Backpropagation, functional, nn

DEVICE = Path(__file__).with_name("device.py")
BATCH = 32
COLUMNS = ("epoch", "cost there", "cost here")


def main(run: Run) -> None:
    """Train in another process and in this one, and say how far the parameters are apart."""
    options: Options = run.options
    # One piece, since there is nothing to compare before both have trained.
    measure = partial(_measure, run.folder, options)
    study(run, {"training": Piece("Export", 1.0, measure)}, partial(_tell, options))


def _measure(folder: Path, options: Options, progress: Progress) -> dict[str, Any]:
    torch.manual_seed(options.seed)
    model = torch.nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = digits()
    files = [folder / name for name in ("step.pt2", "start.pt", "end.pt")]
    export(Backpropagation(model, functional.cross_entropy), optimizer, batches, files)
    there, here = [], []
    for cost in elsewhere(files, options.epochs):
        there.append(cost)
        progress(0.9 * len(there) / options.epochs, f"epoch {len(there)} there · cost {cost:.4f}")
    algorithm = Backpropagation(model, functional.cross_entropy, update=optimizer)
    for epoch in range(options.epochs):
        costs = [algorithm(inputs, targets)[0].item() for inputs, targets in batches]
        here.append(sum(costs) / len(costs))
        optimizer.param_groups[0]["lr"] *= DECAY
        progress(0.9 + 0.1 * epoch / options.epochs, "the same here")
    trained: dict[str, Tensor] = torch.load(files[2], weights_only=True)
    farthest = max((trained[key] - p).abs().max().item() for key, p in model.named_parameters())
    return {"bytes": files[0].stat().st_size, "there": there, "here": here, "farthest": farthest}


def digits() -> list[tuple[Tensor, Tensor]]:
    """Scikit-learn's digits, in batches of equal size."""
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    count = len(images) // BATCH * BATCH
    parts = (images[:count] / 16).split(BATCH), labels[:count].split(BATCH)
    return list(zip(*parts, strict=True))


def export(
    algorithm: Backpropagation,
    optimizer: torch.optim.Optimizer,
    batches: list[tuple[Tensor, Tensor]],
    files: list[Path],
) -> None:
    """Write the step to the first of the files, and what it starts from to the second."""
    step = algorithm.training_step(optimizer)
    start = step.start()
    # Copies, for with a view all that it is a view of would be written.
    batch = [part.clone() for part in batches[0]]
    torch.export.save(torch.export.export(step, (*start, *batch)), files[0])
    torch.save((*start, batches), files[1])


def elsewhere(files: list[Path], epochs: int) -> Iterator[float]:
    """Train in another process, from the files, and yield the mean cost of each epoch.

    Raises:
        RuntimeError: If that process fails; its own words are on the terminal.
    """
    # isolated: neither this folder nor PYTHONPATH is searched for modules
    command = [sys.executable, "-I", str(DEVICE), *map(str, files), str(epochs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                yield float(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"the process that trains from {files[0].name} ended with {process.returncode}")


def _tell(options: Options, found: dict[str, Any]) -> Account:
    rows, headline, sections, events = [], "", [], {}
    if found:
        measured = found["training"]
        pairs = list(zip(measured["there"], measured["here"], strict=True))
        rows = [(str(epoch), *(f"{cost:.6f}" for cost in pair)) for epoch, pair in enumerate(pairs, 1)]
        headline = (
            f"Forward pass, backward pass and update are one file of {measured['bytes'] / 1024:.0f} KiB."
            f" Trained from it where this package is not, and trained here, the parameters differ by"
            f" <b>{measured['farthest']:.1e}</b> at most."
        )
        sections = [_figure(measured)]
        events = {where: {"cost": list(enumerate(measured[where], 1))} for where in ("there", "here")}
    return Account(
        "A training step to take away",
        f"digits · perceptron 64–128–10 · {options.epochs} epochs",
        headline,
        COLUMNS,
        rows,
        sections,
        COLUMNS,
        [dict(zip(COLUMNS, row, strict=True)) for row in rows],
        events,
    )


def _figure(measured: dict[str, Any]) -> str:
    with sketch("mean cost of each epoch, there and here", 9.0, 3.0) as drawing:
        axes = drawing.axes[0]
        epochs = range(1, len(measured["there"]) + 1)
        # Wider below narrower, so that curves that coincide can both be seen.
        for number, (where, width) in enumerate((("there", 4.0), ("here", 1.4))):
            axes.plot(epochs, measured[where], color=SERIES[number], marker=MARKERS[number], linewidth=width)
        axes.set_ylim(bottom=0)
        axes.set_xticks(list(epochs) if len(epochs) <= 20 else axes.get_xticks())
        axes.set_xlabel("epoch")
        axes.set_title("mean cost of the epoch, nats", loc="left", fontsize=10)
    names = legend(name(text, i) for i, text in enumerate(("from the file, without this package", "here")))
    return section("Cost", "The two descents are one: their curves coincide.", names, wide(drawing.svg))
