"""Nested tensors: batches of sequences of several lengths, without padding."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch_backprop

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


class Block(nn.Module):
    """Words to what they attend to."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(9, 8), nn.LayerNorm(8)
        self.projections = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.feed_forward = nn.Sequential(
            nn.RMSNorm(8), nn.Hardtanh(), nn.Dropout(0.3), nn.GELU(), nn.Linear(8, 4)
        )

    def forward(self, words: Tensor) -> Tensor:
        x = self.norm(self.words(words))
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in self.projections)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        return self.feed_forward(x + y)


def sequences() -> Tensor:
    return torch.nested.nested_tensor([torch.tensor([1, 2, 3]), torch.tensor([8, 5])], layout=torch.jagged)


def test_a_batch_of_several_lengths_has_the_gradients_of_the_built_in() -> None:
    torch.manual_seed(0)
    builtin = Block().double()
    ours = copy.deepcopy(builtin)
    torch_backprop.convert(ours)
    found = []
    for model in (ours, builtin):
        torch.manual_seed(1)
        with torch_backprop.patched() if model is ours else nullcontext():
            costs = model(sequences()).values().square()
        found.append((costs, *torch.autograd.grad(costs.sum(), tuple(model.parameters()))))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.slow
def test_it_is_compiled() -> None:
    layer = torch_backprop.nn.Linear(3, 4)
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x).values(), layer(x.values()))
