"""patched, which swaps calls of functions."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torch_backprop
from experiments.held import nodes_of


def rules(output: Tensor) -> set[str]:
    """The names of the nodes behind an output."""
    return {node.name() for node in nodes_of(output)}


def test_patched_calls_the_twins_of_functions_and_gives_the_same() -> None:
    def model(x: Tensor) -> Tensor:
        y = F.dropout(F.gelu(F.linear(x, x)), 0.5) + torch.relu(x).sigmoid().sum()
        return F.cross_entropy(F.tanh(F.sigmoid(y)), torch.tensor([0, 1, 2]))

    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    (expected,) = torch.autograd.grad(model(x), x)
    torch.manual_seed(0)
    with torch_backprop.patched():
        cost = model(x)
    torch.testing.assert_close(torch.autograd.grad(cost, x, retain_graph=True), (expected,))
    ours = [
        "LinearRule",
        "gelu_rule",
        "DropoutRule",
        "relu_rule",
        "sigmoid_rule",
        "tanh_rule",
        "CrossEntropyRule",
    ]
    others = {"AddBackward0", "SumBackward0", "CloneBackward0", "torch::autograd::AccumulateGrad"}
    assert rules(cost) == {f"{rule}Backward" for rule in ours} | others


def test_converted_layers_that_overwrite_their_input_run_within_patched() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 3), nn.SiLU(inplace=True))
    x = torch.randn(2, 3)
    expected = torch.autograd.grad(model(x).sum(), tuple(model.parameters()))
    torch_backprop.convert(model)
    with torch_backprop.patched():
        seen = torch.autograd.grad(model(x).sum(), tuple(model.parameters()))
    torch.testing.assert_close(seen, expected)


def test_patched_ends_and_nests_and_every_function_is_replaced() -> None:
    x = torch.ones(2, requires_grad=True)
    with torch_backprop.patched(), torch_backprop.patched():
        assert torch.func.grad(lambda x: F.gelu(x).sum())(x.detach()).shape == x.shape
    assert rules(F.gelu(x)) == {"GeluBackward0", "torch::autograd::AccumulateGrad"}


def test_a_checkpoint_that_is_told_of_it_calls_the_twins_again() -> None:
    x = torch.randn(3, 2, requires_grad=True)

    def called(x: Tensor) -> Tensor:
        return F.layer_norm(F.gelu(x), (2,)).relu()

    with torch_backprop.patched():
        contexts = nullcontext(), torch_backprop.patched()
        y = checkpoint(called, x, use_reentrant=False, context_fn=lambda: contexts)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x), torch.autograd.grad(called(x).sum(), x))


CALLS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "Tensor.softmax": ("SoftmaxRule", lambda x: x.softmax(-1)),
    "torch.softmax": ("SoftmaxRule", lambda x: torch.softmax(x, dim=1, dtype=torch.float64)),
    "torch.log_softmax": ("LogSoftmaxRule", lambda x: torch.log_softmax(x, 0)),
    "gumbel_softmax": ("SoftmaxRule", lambda x: F.gumbel_softmax(x, tau=0.5, hard=True, dim=0)),
    "Tensor.relu_": ("relu_rule", lambda x: x.clone().relu_()),
    "F.elu_": ("elu_rule", lambda x: F.elu_(x.clone(), 2.0)),
    "F.hardtanh_": ("hardtanh_rule", lambda x: F.hardtanh_(x.clone(), -0.2, 2.0)),
    "F.normalize": ("NormalizeRule", lambda x: F.normalize(x)),
    "torch.conv1d": ("ConvolutionRule", lambda x: torch.conv1d(x, x.detach().unsqueeze(2))),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_ways_to_call_a_function_are_patched_too(name: str) -> None:
    rule, call = CALLS[name]
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    expected = call(x)
    torch.manual_seed(1)
    with torch_backprop.patched():
        seen = call(x)
    assert f"{rule}Backward" in rules(seen)
    torch.testing.assert_close(seen, expected)
    gradients = (torch.autograd.grad(y.square().sum(), x) for y in (seen, expected))
    torch.testing.assert_close(*gradients)


def test_a_tensor_to_write_into_is_for_torch() -> None:
    x, out = torch.randn(3), torch.empty(3)
    with torch_backprop.patched():
        assert torch.sigmoid(x, out=out) is out
    torch.testing.assert_close(out, x.sigmoid())
