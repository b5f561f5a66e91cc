"""What a person sees of a trace: the calculation on paper, the table, the page and the drawing."""

from __future__ import annotations

import math
import re
import sys
from collections import OrderedDict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

import torch_backprop.tracing
from experiments import cli
from tests.test_tracing import odd
from torch_backprop import Trace, trace
from torch_backprop.tracing.page import matrix

LOSSES: dict[str, tuple[Any, Any]] = {
    "mean squares": (nn.MSELoss(), torch.tensor([[0.3, -0.4]])),
    "squares": (nn.MSELoss(reduction="sum"), torch.tensor([[0.3, -0.4]])),
    "function": (nn.functional.mse_loss, torch.tensor([[0.3, -0.4]])),
    "binary": (nn.BCELoss(), torch.tensor([[0.0, 1.0]])),
    "logits": (nn.BCEWithLogitsLoss(), torch.tensor([[0.0, 1.0]])),
    "classes": (nn.CrossEntropyLoss(), torch.tensor([1])),
}
ACTIVATIONS = (nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.SiLU(), nn.Softplus(), nn.LogSigmoid())


def small(
    activation: nn.Module = ACTIVATIONS[0], loss: Any = None, targets: Any = None, outputs: int = 1
) -> Trace:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), activation, nn.Linear(2, outputs), nn.Sigmoid()).double()
    targets = torch.tensor([[0.01]]) if targets is None else targets
    targets = targets.double() if targets.is_floating_point() else targets
    return trace(model, loss or nn.MSELoss(), torch.tensor([[0.05, -0.1]]).double(), targets)


def evaluated(numbers: str) -> float:
    """What a formula in numbers comes to."""
    text = numbers.replace("·", "*").replace("[", "float(").replace("]", ")")
    text = re.sub(r"e\^(-?[\d.]+(?:e[-+]\d+)?)", r"exp(\1)", text).replace("e^(", "exp(").replace("^", "**")
    return eval(text, {"exp": math.exp, "log": math.log, "tanh": math.tanh, "max": max, "float": float})


def checked(text: str) -> int:
    """Hold every line with numbers to what it says they come to; return how many there are."""
    count = 0
    for line in text.splitlines():
        numbers, _, result = line.partition("    autograd ")[0].strip().rpartition(" = ")
        if numbers.startswith("= "):
            assert evaluated(numbers[2:]) == pytest.approx(float(result), rel=1e-6, abs=1e-9), line
            count += 1
        if "autograd " in line:
            assert float(line.rpartition("autograd ")[2]) == pytest.approx(
                float(result.split()[-1]), rel=1e-8
            )
    return count


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda each: type(each).__name__)
def test_every_number_on_paper(activation: nn.Module) -> None:
    found = small(activation)
    text = found.calculation(digits=10)
    # Activations, cost and its error, errors passed on, weights; biases and sums of one term need no sum.
    assert checked(text) >= (2 + 2 + 1 + 1) + 2 + (1 + 2 + 2) + (4 + 2)
    lines = [line.strip() for line in text.splitlines()]
    for number, name in enumerate(("0.weight", "0.bias", "2.weight", "2.bias")):
        letter, layer = name[2], (1, 1, 3, 3)[number]
        gradient = found.gradients[name].ours
        assert gradient is not None
        assert sum(line.startswith(f"dL/d{letter}{layer}_") for line in lines) == gradient.numel()
    assert f"= {found.layers[-1].activation.item():.10g}" in text


@pytest.mark.parametrize("name", LOSSES)
def test_costs_on_paper(name: str) -> None:
    loss, targets = LOSSES[name]
    text = small(nn.Tanh(), loss, targets, outputs=2).calculation(digits=10)
    assert checked(text) > 20
    cost = text[text.index("Cost") : text.index("Backward pass")]
    assert "Loss(" not in cost, "the cost has a formula"
    assert cost.count("dL/dy4_1") == 1
    assert cost.count("dL/dy4_2") == 1


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), torch.tensor([1])),
        (nn.SmoothL1Loss(), torch.tensor([[0.3, -0.4]])),
        (lambda output, targets: (output - targets).abs().sum(), torch.tensor([[0.3, -0.4]])),
    ],
)
def test_what_has_no_formula_is_named(loss: Any, targets: Any) -> None:
    text = small(nn.Softplus(beta=2), loss, targets, outputs=2).calculation(digits=10)
    assert checked(text) > 10
    assert "y2_1 = Softplus(y1)_1 = " in text
    assert "dL/dy1_2 = " in text
    assert ", by the rule of Softplus" in text
    assert re.search(r"L = \S+\(y4, t\) = ", text)


def test_branches_on_paper() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.second(y) * self.second(2 * y)

    found = trace(Residual().double(), nn.MSELoss(), torch.ones(1, 2).double(), torch.zeros(1, 2).double())
    text = found.calculation(digits=10)
    assert checked(text) > 8
    assert "u3_1 = " in text
    assert ", computed between the layers" in text
    # The gradient of a layer called twice is a sum that no line of one call comes to.
    assert "dL/dw2_11 = gradient of second.weight = " in text
    assert found.difference < 1e-12


def test_large_ones_are_not_worked_out() -> None:
    assert odd().calculation() == ""
    assert small(nn.ReLU()).table().startswith("Forward pass\n  x_1 = 0.05\n")
    text = str(odd())
    assert text.startswith("Forward pass\n  layer")
    assert max(map(len, text.splitlines())) <= 80
    assert "twice#2" in text
    assert re.search(r"unheard +its output +none +none +0", text)


def deep() -> Trace:
    """Layers whose names are too long for a column, and for a line with the rest."""
    model: nn.Module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(9)))
    for name in ("encoder", "a_block_with_a_long_name", "transformer"):
        model = nn.Sequential(OrderedDict({name: model}))
    return trace(model, nn.MSELoss(), torch.ones(3, 2), torch.zeros(3, 2))


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_into_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found = deep()
    lines = found.table().splitlines()
    assert max(map(len, lines)) <= width
    # A table whose lines would be too long has the names in lines of their own.
    assert lines.count("  transformer.a_block_with_a_long_name.encoder.0") == {80: 1, 160: 0}[width]
    words = [line.split() for line in lines]
    bias = found.gradients["transformer.a_block_with_a_long_name.encoder.8.bias"].ours
    assert bias is not None
    assert ["bias", "2", *(2 * [f"{number:.4g}" for number in bias.tolist()]), "0"] in words


def test_names_in_the_drawing_do_not_overlap() -> None:
    figure = deep().plot()
    FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == 4, "ten columns are two rows each way"
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert len(boxes) > 5
        assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


class Tags(HTMLParser):
    """Notes whether every tag is closed, and what a page asks of others."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count += 1
        self.asked += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag


@pytest.mark.parametrize("made", [odd, lambda: small(nn.Sigmoid())])
def test_the_page_needs_nothing_else(made: Any) -> None:
    page = made().to_html()
    tags = Tags()
    tags.feed(page)
    assert tags.open == tags.asked == []
    assert page.count("<svg") > 10
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert ("On paper" in page) == (made is not odd)


DRAWN = [
    ((), (1, 1)),
    ((7,), (1, 7)),
    ((1, 64), (8, 8)),
    ((1, 70), (3, 32)),
    ((5, 3), (5, 3)),
    ((0,), (1, 0)),
]
IMAGES = [((0,), (1, 0)), ((2, 3, 4, 5), (4, 17)), ((40, 50), (32, 32)), ((2, 9, 9), (9, 19))]


@pytest.mark.parametrize(("shape", "drawn"), [*DRAWN, *IMAGES])
def test_what_is_drawn_of_a_tensor(shape: tuple[int, ...], drawn: tuple[int, int]) -> None:
    assert tuple(matrix(torch.randn(shape)).shape) == drawn


@pytest.mark.parametrize(("made", "ending"), [(odd, "svg"), (small, "png")])
def test_the_drawing(tmp_path: Path, made: Any, ending: str) -> None:
    path, found = tmp_path / f"drawing.{ending}", made()
    figure = found.plot(path)
    assert path.stat().st_size > 5000
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {layer.title for layer in found.layers} <= words
    if made is small:
        tensors = [layer.activation for layer in found.layers] + [layer.error.ours for layer in found.layers]
        assert {f"{number:.3g}" for each in tensors for number in each.flatten().tolist()} <= words


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = small()
    for name in ("matplotlib.colors", "matplotlib.figure", "matplotlib.patches"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch_backprop.tracing.drawing", raising=False)
    monkeypatch.delattr(torch_backprop.tracing, "drawing", raising=False)
    assert "Linear" in found.table()
    assert "<svg" in found.to_html()
    with pytest.raises(ImportError, match=r'pip install "torch_backprop\[experiments\]"'):
        found.plot()


@pytest.mark.parametrize("model", ["perceptron", "convolution", "2-2-1"])
def test_the_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr("experiments.interrupt.listen", lambda: None)
    given = ["--model", model, "--example", "5", "--epochs", "1", "--out", str(tmp_path)]
    assert cli.main(["trace", *given]) == 0
    out = capsys.readouterr().out
    assert ("Example 5 is a 5; the network says" in out) == (model != "2-2-1")
    assert ("L = (y4_1 - t)^2" in out) == (model == "2-2-1")
    (run,) = (tmp_path / "trace").iterdir()
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")
    assert (run / "drawing.svg").exists()
    assert "by hand" in (run / "metrics.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "said"),
    [(["--example", "1797"], "--example: '1797'"), (["--model", "lenet"], "--model: 'lenet'")],
)
def test_the_experiment_refuses(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["trace", *given])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
