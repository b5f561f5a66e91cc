"""Fully sharded training (FSDP2) in two processes: what is sharded descends as what is whole."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, Block, Residual
from checks.comparison import equal
from checks.trial import differentiable
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import torch_backprop
from tests.processes import spawn
from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, LayerSpec

PROCESSES = 2
UNITS = (Residual, Block, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.LSTM)
"""Parts of the architectures that are sharded, and gathered, each by itself."""

Cost = Callable[[nn.Module, int], Tensor]


class Costing(nn.Module):
    """An architecture whose call is its cost: only for a call are sharded parameters gathered."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> Tensor:
        return self.model.cost()


def descend(model: nn.Module, cost: Cost, parts: tuple[int, ...]) -> dict[str, Any]:
    """What each part of the data costs in two updates by the mean of their gradients; and the end."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    costs: dict[str, Any] = {}
    for step in range(2):
        optimizer.zero_grad()
        for part in parts:
            torch.manual_seed(PROCESSES * step + part)
            costs[f"{step} {part}"] = c = cost(model, part)
            (c / len(parts)).backward()
        optimizer.step()
    end = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return {name: c.detach() for name, c in costs.items()} | {name: whole(p) for name, p in end.items()}


def whole(tensor: Any) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def assert_sharded_is_whole(title: str, model: nn.Module, cost: Cost, rank: int) -> None:
    sharded = copy.deepcopy(model)
    for module in tuple(sharded.modules())[1:]:
        if isinstance(module, UNITS):
            fully_shard(module)
    fully_shard(sharded)
    with pytest.raises(ValueError, match="sharded: convert"):
        torch_backprop.convert(sharded)
    # of the others' costs a process knows nothing
    expected = descend(model, cost, tuple(range(PROCESSES)))
    seen = descend(sharded, cost, (rank,))
    equal(seen, {name: expected[name] for name in seen}, title)


def layer(spec: LayerSpec, case: Case, rank: int) -> bool:
    fixed = case.draw(torch.float64)

    def cost(module: nn.Module, part: int) -> Tensor:
        # which parameters are used must not differ between processes, and classes may decide it
        drawn = zip(fixed, case.draw(torch.float64, part), strict=True)
        output = module(*(own if x.is_floating_point() else x for x, own in drawn))
        return torch.stack([y.square().sum() for y in differentiable(output)]).sum()

    model = case.called(case.build(spec.layer, torch.float64))
    learns = any(parameter.requires_grad for parameter in model.parameters())
    if learns:
        assert_sharded_is_whole(f"{spec.layer.__name__}({case})", model, cost, rank)
    return learns


def architecture(kind: Any, rank: int) -> None:
    torch.manual_seed(0)
    model = Costing(kind().double())
    torch_backprop.convert(model)
    assert_sharded_is_whole(kind.__name__, model, lambda model, _: model(), rank)


def tensor_parallel() -> None:
    """Weights that stay sharded in the forward pass, as DTensors."""
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3)).double()
    torch_backprop.convert(model)
    x = torch.randn(5, 4).double()
    mesh = init_device_mesh("cpu", (PROCESSES,))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    sharded = parallelize_module(copy.deepcopy(model), mesh, plan)

    def cost(model: nn.Module, _: int) -> Tensor:
        return model(x).square().sum()

    equal(descend(sharded, cost, (0,)), descend(model, cost, (0,)), "tensor parallel")


def everything(rank: int) -> int:
    # torch says of some layers that their output is a view, and that they pad
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    tensor_parallel()
    for kind in ARCHITECTURES:
        architecture(kind, rank)
    # of synchronized batch normalization torch has no CPU version
    on_cpu = [(s, case) for s in SPECS for case in s.cases if s.reference is not nn.SyncBatchNorm]
    return sum(layer(spec, case, rank) for spec, case in on_cpu)


def test_two_processes(tmp_path: Path) -> None:
    counts = spawn(everything, PROCESSES, tmp_path)
    assert counts[0] == counts[1] > 100
