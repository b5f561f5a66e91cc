"""What goes into a pass over tensors in memory: rows of several tensors; and no work for what is frozen."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.sequential_sgd import make_optimizer, snapshot
from tests.test_optim_descend import LR, PATHS, N, data, perceptron
from torch_backprop import nn
from torch_backprop.functional import cross_entropy, mse_loss
from torch_backprop.optim import StochasticGD
from torch_backprop.optim.descend.step_graph import trace_step


@pytest.mark.parametrize("variant", ["batch", "stochastic", "minibatch"])
def test_several_inputs_and_targets_are_rows_in_step(variant):
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()

        def forward(self, x: Tensor, y: Tensor) -> Any:
            return self.a(x) * self.b(y), self.a(y)

    def loss(outputs: Any, targets: Any) -> Tensor:
        return cross_entropy(outputs[0], targets["class"]) + mse_loss(outputs[1], targets["point"])

    (x, t), found = data(), []
    rows = {"class": t, "point": x[:, 1]}
    torch.manual_seed(0)
    start = Two()
    ways = [((x[:, 0], x[:, 1]), path) for path in ("tape", "autograd", None)]
    for inputs, path in [*ways, ({"y": x[:, 1], "x": x[:, 0]}, None)]:
        model = copy.deepcopy(start)
        optimizer: Any = make_optimizer(variant, model.parameters(), LR)
        optimizer.descend(model, loss, inputs, rows, path=path)
        found.append(snapshot(model))
        assert optimizer.paths == {path or ("tape" if variant == "stochastic" else "autograd"): N}
    twin = copy.deepcopy(start)
    optimizer = make_optimizer(variant, twin.parameters(), LR)
    for *both_, t_, p in optimizer.epoch([(x[:, 0], x[:, 1], t, x[:, 1])]):
        optimizer.step(lambda x, y, t, p: loss(twin(x, y), {"class": t, "point": p}), *both_, t_, p)
    assert max((each - snapshot(twin)).abs().max() for each in found) <= 1e-10


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "mm" in str(func)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("path", PATHS)
def test_what_does_not_learn_is_no_work(path):
    counts = []
    for learning in (slice(0, 7), slice(3, 7), slice(6, 7)):
        model, (x, t) = perceptron(), data()
        model.requires_grad_(False)
        model[learning].requires_grad_(True)
        optimizer = StochasticGD(model.parameters(), LR)
        if path == "compiled":
            graph = trace_step(optimizer, model, cross_entropy, x[:1], t[:1]).module.graph
            counts.append(sum("mm" in str(node.target) for node in graph.nodes))
            continue
        optimizer.descend(model, cross_entropy, x[:1], t[:1], path=path)
        with Products() as products:
            optimizer.descend(model, cross_entropy, x[:1], t[:1], path=path)
        counts.append(products.count)
    # Forward 3; backward for each that learns its gradient, and its input's error if one before it learns.
    assert counts == [3 + 3 + 2, 3 + 2 + 1, 3 + 1]
