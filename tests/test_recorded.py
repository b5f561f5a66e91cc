"""Programs recorded of converted models, which differentiate the operators by themselves."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_backprop


def traced(model: nn.Module, x: Tensor, path: Path) -> nn.Module:
    torch.jit.save(torch.jit.trace(model, x), path)
    return torch.jit.load(path)


def exported(model: nn.Module, x: Tensor, _: Path) -> nn.Module:
    return torch.export.export(model, (x,), strict=True).module()


@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("recorded", [traced, exported])
def test_a_recorded_model_has_the_gradients_of_the_built_in(recorded: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    norms = nn.BatchNorm1d(3), nn.RMSNorm(5), nn.GroupNorm(3, 3)
    bent = nn.LeakyReLU(inplace=True), nn.GELU(), nn.RReLU(0.1, 0.1, inplace=True)
    ours = nn.Sequential(
        nn.Conv1d(2, 3, 2, padding=1), *norms, *bent, nn.Flatten(), nn.Linear(15, 2)
    ).double()
    builtin = copy.deepcopy(ours)
    torch_backprop.convert(ours)
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    seen, expected = (
        torch.autograd.grad(model(x).square().sum(), (x, *model.parameters()))
        for model in (recorded(ours, x, tmp_path / "model.pt"), builtin)
    )
    torch.testing.assert_close(seen, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
def test_a_script_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    torch_backprop.convert(model)
    with pytest.raises(RuntimeError, match=r"cannot compile .* of Linear: script the model before"):
        torch.jit.script(model)
