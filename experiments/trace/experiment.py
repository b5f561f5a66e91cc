"""One pass of backpropagation over a handwritten digit, layer by layer, with autograd's numbers beside it."""

from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import torch_backprop
from experiments.environment import environment
from experiments.page import lead, section, table
from experiments.report import say_where, write_events, write_report
from experiments.run import Run
from experiments.terminal import Bar
from experiments.trace.options import Options
from torch_backprop.optim import MiniBatchGD
from torch_backprop.tracing import page

BATCH_SIZE, LR = 32, 0.02
COLUMNS = ("layer", "gradient of", "norm by hand", "norm by autograd", "difference")


def main(run: Run) -> None:
    """Train for a moment, trace one example, print the passes, and leave the page and the drawing."""
    options: Options = run.options
    console = Console()
    # The whole of it takes a moment: resumed, it is made again, and comes out the same.
    torch.manual_seed(options.seed)
    guess = ""
    if options.model.name == "2-2-1":
        trace = _tiny()
    else:
        x, y = (torch.tensor(values) for values in load_digits(return_X_y=True))
        x = x.view(-1, 8, 8).float() / 16
        with Bar(console, options.epochs + 1) as bar:
            model = _trained(options.model.name, x, y, options.epochs, bar)
            bar.begin(1, "One pass back")
            trace = _traced(model, x, y, options.example)
        guess = _guess(trace, int(y[options.example]), options.example)
        console.print(guess, "", highlight=False)
    print(trace.table())
    rows = list(_rows(trace))
    run.write_rows("metrics.csv", COLUMNS, rows)
    for column in COLUMNS[2:]:
        write_events(run, column, {column: [(i, row[column]) for i, row in enumerate(rows)]})
    trace.plot(run.folder / "drawing.svg")
    subtitle = f"{options.model.name} · {len(trace.layers)} layers · seed {options.seed}"
    sections, here = _sections(trace, guess, rows), environment(options.seed, "cpu")
    say_where(console, run, write_report(run, "Backpropagation, layer by layer", subtitle, sections, [here]))


def _sections(trace: torch_backprop.Trace, guess: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"<style>{page.style()}</style>"
    cost = f"The cost is {trace.cost.ours:.4g}, by autograd {trace.cost.autograd:.4g}"
    yield lead(f"{guess} {cost}; the gradients' largest relative difference is {trace.difference:.1g}.")
    cells = [[x if isinstance(x, str) else f"{x:.4g}" for x in row.values()] for row in rows]
    yield table(COLUMNS, cells)
    if worked := page.paper(trace):
        yield section("On paper", "Every number of both passes, with its formula.", worked)
    yield section(
        "Forward pass",
        f"What each layer makes of what the one before it has made. {page.KEY}",
        page.forward(trace),
    )
    text = (
        "From the last layer to the first: the gradient that reaches its output, and those of its parameters."
    )
    yield section("Backward pass", text, page.backward(trace))


def _rows(trace: torch_backprop.Trace) -> Iterator[dict[str, Any]]:
    """Yield each gradient in the order of the backward pass."""
    for layer in reversed(trace.layers):
        pairs = {"its output": layer.error, **layer.gradients}
        for name, each in pairs.items():
            norms = [0.0 if x is None else x.norm().item() for x in (each.ours, each.autograd)]
            yield dict(zip(COLUMNS, (layer.title, name, *norms, float(each.difference)), strict=True))


def _tiny() -> torch_backprop.Trace:
    """A network of two inputs, two hidden units and one output, on one example."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid())
    return torch_backprop.trace(model, nn.MSELoss(), torch.tensor([[0.05, 0.1]]), torch.tensor([[0.01]]))


def _trained(name: str, x: Tensor, y: Tensor, epochs: int, bar: Bar) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    if name == "convolution":
        first = (nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        model = nn.Sequential(*first, nn.Flatten(), nn.Linear(64, 10))
    torch_backprop.convert(model)
    optimizer = MiniBatchGD(model.parameters(), LR, BATCH_SIZE, momentum=0.9)
    batches = list(zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True))
    for epoch in range(epochs):
        bar.begin(1, f"Training · epoch {epoch + 1} of {epochs}")
        for inputs, targets in optimizer.epoch(batches):
            optimizer.step(lambda inputs, targets: cross_entropy(model(inputs), targets), inputs, targets)
    return model


def _traced(model: nn.Sequential, x: Tensor, y: Tensor, example: int) -> torch_backprop.Trace:
    one = slice(example, example + 1)
    return torch_backprop.trace(model, nn.CrossEntropyLoss(), x[one], y[one])


def _guess(trace: torch_backprop.Trace, digit: int, example: int) -> str:
    share, guess = trace.layers[-1].activation.softmax(1)[0].max(0)
    return f"Example {example} is a {digit}; the network says {guess}, {share:.0%} sure."
