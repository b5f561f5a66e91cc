"""One pass of backpropagation over a handwritten digit, layer by layer, with autograd's numbers beside it."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import torch_backprop
from experiments.options import listing
from torch_backprop.optim import MiniBatchGD

EPOCHS, BATCH_SIZE, LR = 2, 32, 0.02
MODELS = ("perceptron", "convolution", "2-2-1")


def main(arguments: list[str] | None = None) -> int:
    """Trains for a moment, traces one example, prints the passes, and writes the page and the drawing.

    Returns:
        0, or 2 for an example that there is not.
    """
    options = _parser().parse_args(arguments)
    torch.manual_seed(0)
    if options.model == "2-2-1":
        trace = _tiny()
    else:
        x, y = (torch.tensor(values) for values in load_digits(return_X_y=True))
        x = x.view(-1, 8, 8).float() / 16
        if not 0 <= options.example < len(y):
            sys.stderr.write(f"trace: --example: there is no {options.example}, only 0 to {len(y) - 1}\n")
            return 2
        model = _trained(options.model, x, y, options.epochs)
        trace = _traced(model, x, y, options.example)
    if options.html:
        options.html.write_text(trace.to_html(), encoding="utf-8")
    if options.plot:
        trace.plot(options.plot)
    print(trace.table())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments trace", description=__doc__)
    add = parser.add_argument
    add("--model", choices=MODELS, default=MODELS[0], help="2-2-1 is worked out as on paper, every number")
    add("--example", type=int, default=0, metavar="N", help="which digit, from 0 (default: 0)")
    add("--epochs", type=int, default=EPOCHS, help=f"of training before the pass (default: {EPOCHS})")
    add("--html", type=_file(".html"), metavar="FILE", help="write the passes there as a page")
    plot = _file(".png", ".svg", ".pdf")
    add("--plot", type=plot, metavar="FILE", help="draw the network there, as PNG, SVG or PDF")
    return parser


def _file(*endings: str) -> Callable[[str], Path]:
    """Accept a file that can be written, before anything is computed for it."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix not in endings:
            raise argparse.ArgumentTypeError(f"{text!r} must end in {listing(endings)}")
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
        return path

    return parse


def _tiny() -> torch_backprop.Trace:
    """A network of two inputs, two hidden units and one output, on one example."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid())
    return torch_backprop.trace(model, nn.MSELoss(), torch.tensor([[0.05, 0.1]]), torch.tensor([[0.01]]))


def _trained(name: str, x: Tensor, y: Tensor, epochs: int) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    if name == "convolution":
        first = (nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        model = nn.Sequential(*first, nn.Flatten(), nn.Linear(64, 10))
    torch_backprop.convert(model)
    optimizer = MiniBatchGD(model.parameters(), LR, BATCH_SIZE, momentum=0.9)
    batches = list(zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True))
    for _ in range(epochs):
        for inputs, targets in optimizer.epoch(batches):
            optimizer.step(lambda inputs, targets: cross_entropy(model(inputs), targets), inputs, targets)
    return model


def _traced(model: nn.Sequential, x: Tensor, y: Tensor, example: int) -> torch_backprop.Trace:
    one = slice(example, example + 1)
    trace = torch_backprop.trace(model, nn.CrossEntropyLoss(), x[one], y[one])
    share, guess = trace.layers[-1].activation.softmax(1)[0].max(0)
    print(f"Example {example} is a {y[example]}; the network says {guess}, {share:.0%} sure.\n")
    return trace
