"""Steps of many kinds of models as loops in C, against the tape."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.sequential_sgd import snapshot
from tests.test_optim_descend import needs_compiler
from torch_backprop import nn
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import StochasticGD

N = 6


class Residual(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x + torch.cat((self.a(x)[:, 3:], self.a(x)[:, :3]), 1))
        return self.b(y).reshape(1, 2, 3).amax(1) * x[:, ::2].abs().clamp(0.1, 2)


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell, self.out = nn.Embedding(7, 4), nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(self.table(x))[0][:, -1])


class Powers(torch.nn.Module):
    """A parameter of no dimensions, powers, and what is joined to nothing and picked from."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(6, 3), torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat((x.new_empty(0), self.scale * self.linear(x) ** 2), 1)
        return y - y.gather(1, torch.zeros_like(y).long(), sparse_grad=True) / 2


def small(*layers: Any) -> Any:
    return lambda: torch.nn.Sequential(*(layer() if isinstance(layer, type) else layer for layer in layers))


MODELS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "residual": (Residual, (6,), nn.MSELoss()),
    "recurrent": (Recurrent, (), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double())),
    "powers": (Powers, (6,), nn.MSELoss()),
    "margins": (small(nn.Linear(6, 3)), (6,), nn.MultiMarginLoss()),
    "images": (
        small(
            nn.Conv2d(2, 4, 3, padding=1, stride=2),
            nn.ReLU,
            nn.MaxPool2d(2, padding=1),
            nn.GroupNorm(2, 4),
            nn.Conv2d(4, 2, 2, groups=2),
            nn.GELU,
            nn.Flatten,
            nn.LazyLinear(3),
            nn.LogSoftmax(1),
        ),
        (2, 7, 8),
        nn.NLLLoss(),
    ),
    "signals": (
        small(
            nn.Conv1d(2, 4, 3, dilation=2),
            nn.SiLU,
            nn.ConvTranspose1d(4, 2, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm1d(2),
            nn.PReLU,
            nn.AvgPool1d(3),
            nn.Flatten,
            nn.LazyLinear(3),
        ),
        (2, 9),
        nn.HuberLoss(),
    ),
}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_of_all_kinds_are_compiled(name):
    make, shape, loss = MODELS[name]
    torch.manual_seed(2)
    x = torch.randn(N, *shape).double() if shape else torch.randint(7, (N, 5))
    t = (
        torch.randint(3, (N,))
        if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss))
        else torch.randn(N, 3).double()
    )
    model = make().double().eval()
    model(x[:1])
    twin = copy.deepcopy(model)
    costs = [
        StochasticGD(each.parameters(), 0.1).descend(each, loss, x, t, path=path)
        for each, path in ((model, "compiled"), (twin, "tape"))
    ]
    torch.testing.assert_close(*costs, rtol=0, atol=1e-12)
    assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10


@needs_compiler
@pytest.mark.slow
def test_what_a_loss_holds_is_read_anew_and_what_cannot_be_compiled_is_said():
    weight = torch.ones(3).double()
    x, t = torch.randn(N, 6).double(), torch.randint(3, (N,))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output * weight, target)

    model = nn.Linear(6, 3).double()
    twin = copy.deepcopy(model)
    for _ in range(2):
        for each, path in ((model, "compiled"), (twin, "tape")):
            StochasticGD(each.parameters(), 0.1).descend(each, loss, x, t, path=path)
        assert (snapshot(model) - snapshot(twin)).abs().max() <= 1e-10
        weight.mul_(2)
    for words, other in (
        ("no translation of aten.sort", lambda output, _: output.sort()[0][:, 0].sum()),
        ("cannot be traced", lambda output, _: output.sum() * float(output.sum())),
    ):
        with pytest.raises(ValueError, match=f"path='compiled' is not possible: .*{words}"):
            StochasticGD(model.parameters(), 0.1).descend(model, other, x, t, path="compiled")
