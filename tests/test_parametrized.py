"""How often a layer asks for a weight: a parametrization may count, as that of spectral_norm iterates."""

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from torch_backprop import convert
from torch_backprop.layers.attention import multihead
from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, Draw, LayerSpec, case
from torch_backprop.twins import TWINS


class Counted(nn.Module):
    def __init__(self, counts: Counter[str], name: str) -> None:
        super().__init__()
        self.counts, self.name = counts, name

    def forward(self, weight: Tensor) -> Tensor:
        self.counts[self.name] += 1
        return weight


def padded(layer: Any, x: Tensor, padding: Tensor) -> Tensor:
    return layer(x, src_key_padding_mask=padding.bool())


OWN: dict[str, Any] = {"embed_dim": 4, "num_heads": 2, "batch_first": True}
ENCODER: Callable[..., nn.Module] = partial(nn.TransformerEncoderLayer, 4, 2, 8, batch_first=True)
MORE = (
    LayerSpec(nn.Module, nn.MultiheadAttention, (case((2, 3, 4), call=multihead.itself, **OWN),)),
    LayerSpec(
        nn.Module,
        nn.TransformerEncoder,
        tuple(
            case((2, 3, 4), Draw((2, 3), "classes", 2), call=padded, encoder_layer=layer, num_layers=2)
            for layer in (ENCODER, partial(ENCODER, activation=torch.tanh))
        ),
    ),
    LayerSpec(nn.Module, nn.LSTM, (case((2, 4), input_size=4, hidden_size=3, proj_size=2, num_layers=2),)),
)


def parameters(spec: LayerSpec, given: Case) -> list[nn.Parameter]:
    return list(given.build(spec.reference, torch.float64).parameters())


LAYERS = [spec for spec in SPECS if spec.reference in TWINS and parameters(spec, spec.cases[0])]


def counted(model: nn.Module, inputs: tuple[Tensor, ...]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, module in list(model.named_modules()):
        for parameter, value in list(module._parameters.items()):
            if value is not None:
                parametrize.register_parametrization(
                    module, parameter, Counted(counts, f"{name}.{parameter}")
                )
    for training in (True, False):
        model.train(training)(*inputs)
    with torch.no_grad():
        model(*inputs)
    return counts


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("spec", [*LAYERS, *MORE], ids=lambda spec: spec.reference.__name__)
def test_a_weight_is_asked_for_as_often_as_by_torch(spec: LayerSpec) -> None:
    for given in spec.cases:
        builtin = given.called(given.build(spec.reference, torch.float64))
        ours = copy.deepcopy(builtin)
        convert(ours)
        inputs = given.draw(torch.float64)
        assert counted(ours, inputs) == counted(builtin, inputs), given


@pytest.mark.parametrize(
    ("layer", "name", "inputs"),
    [(partial(nn.MultiheadAttention, 4, 2), "in_proj_weight", 3), (partial(nn.GRU, 4, 2), "weight_ih_l0", 1)],
)
def test_spectral_norm_iterates_as_often(layer: Any, name: str, inputs: int) -> None:
    torch.manual_seed(0)
    builtin = parametrizations.spectral_norm(layer(), name)
    ours = copy.deepcopy(builtin)
    convert(ours)
    given = [torch.randn(3, 2, 4)] * inputs
    for _ in range(2):
        torch.testing.assert_close(ours(*given), builtin(*given))
    torch.testing.assert_close(ours.state_dict(), builtin.state_dict())
