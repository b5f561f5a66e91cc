"""Exports a training step whole, and trains from the file in a process that does not have this package."""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from torch_backprop import Backpropagation, functional, nn

DEVICE = Path(__file__).with_name("device.py")
BATCH = 32


def main(arguments: list[str] | None = None) -> int:
    """Trains in another process, and says how far its parameters are from those trained here."""
    parser = argparse.ArgumentParser(prog="python -m experiments take_away", description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="passes over the digits (default 5)")
    epochs = parser.parse_args(arguments).epochs
    torch.manual_seed(0)
    model = torch.nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = digits()
    with TemporaryDirectory() as folder:
        trained = elsewhere(Path(folder), Backpropagation(model, functional.cross_entropy), optimizer, epochs)
    algorithm = Backpropagation(model, functional.cross_entropy, update=optimizer)
    for _ in range(epochs):
        for inputs, targets in batches:
            algorithm(inputs, targets)
    farthest = max((trained[name] - p).abs().max().item() for name, p in model.named_parameters())
    print(f"trained there and here, the parameters differ by {farthest:.1e} at most")
    return 0


def digits() -> list[tuple[Tensor, Tensor]]:
    """Scikit-learn's digits, in batches of equal size."""
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    count = len(images) // BATCH * BATCH
    parts = (images[:count] / 16).split(BATCH), labels[:count].split(BATCH)
    return list(zip(*parts, strict=True))


def elsewhere(
    folder: Path, algorithm: Backpropagation, optimizer: torch.optim.Optimizer, epochs: int
) -> dict[str, Tensor]:
    """The parameters that another process arrives at, from the files in ``folder``."""
    batches = digits()
    step = algorithm.training_step(optimizer)
    start = step.start()
    files = [folder / name for name in ("step.pt2", "start.pt", "end.pt")]
    torch.export.save(torch.export.export(step, (*start, *batches[0])), files[0])
    torch.save((*start, batches), files[1])
    print(f"exported {files[0].stat().st_size / 1024:.0f} KiB", flush=True)
    # isolated: neither this folder nor PYTHONPATH is searched for modules
    subprocess.run([sys.executable, "-I", str(DEVICE), *map(str, files), str(epochs)], check=True)
    return torch.load(files[2])
