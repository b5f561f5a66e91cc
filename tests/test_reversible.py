"""What the checks cannot ask of a reversible block and of a low-rank change."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from torch_backprop.layers.reversible import PlainReversibleBlock
from torch_backprop.nn import LoRALinear, ReversibleBlock


def trained(block: nn.Module, x: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    y = block(x)
    gradients = torch.autograd.grad(y.square().sum(), (x, *block.parameters()))
    return [y, *gradients, *block.buffers(), torch.get_rng_state()]


def test_random_numbers_are_replayed_and_statistics_updated_once() -> None:
    f, g = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.4)).double() for _ in range(2))
    x = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    reference = PlainReversibleBlock(*copy.deepcopy((f, g)))
    for seen, expected in zip(trained(ReversibleBlock(f, g), x), trained(reference, x), strict=True):
        torch.testing.assert_close(seen, expected, rtol=1e-12, atol=1e-12)


def test_only_the_output_is_held() -> None:
    f, g = (nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 3)) for _ in range(2))
    block = ReversibleBlock(f, g)
    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(x) or x, lambda x: x):
        block(torch.randn(5, 6))
    parameters = {p.data_ptr() for p in block.parameters()}
    assert sum(x.numel() for x in held if x.data_ptr() not in parameters) == 5 * 6


def test_a_merged_change_is_the_change_and_can_be_taken_out() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(6, 5, rank=2, alpha=3.0).double()
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["lora_a", "lora_b"]
    nn.init.normal_(layer.lora_b)
    x, weight = torch.randn(3, 6, dtype=torch.float64), layer.weight.clone()
    y = layer(x)
    for _ in range(2):
        layer.merge()
    torch.testing.assert_close(layer(x), y)
    assert not layer(x).requires_grad
    for _ in range(2):
        layer.unmerge()
    torch.testing.assert_close(layer.weight.data, weight)


def test_functions_run_again_in_the_dtypes_in_which_they_ran() -> None:
    ran: list[torch.dtype] = []
    block = ReversibleBlock(nn.Linear(4, 4), nn.Linear(4, 4))
    for function in (block.f, block.g):
        function.register_forward_hook(lambda *given: ran.append(given[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        y = block(torch.randn(3, 8))
    y.sum().backward()
    assert ran == [torch.bfloat16] * 4


def test_where_the_second_function_alone_learns_the_first_may_be_written_into() -> None:
    f, g = nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3)
    gradients = []
    for block in (ReversibleBlock(f, g), PlainReversibleBlock(copy.deepcopy(f), copy.deepcopy(g))):
        y = block(torch.ones(2, 6))
        with torch.no_grad():
            for weight in block.f.parameters():
                weight.zero_()
        gradients.append(torch.autograd.grad(y.square().sum(), list(block.g.parameters())))
    torch.testing.assert_close(gradients[0], gradients[1])
