"""convert and revert: class swaps that keep everything but the class."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import torch_backprop
from torch_backprop.convert import TWINS


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.PReLU(), nn.Dropout(0.5))
    return nn.Sequential(
        nn.Linear(5, 6), nn.GELU(), block, nn.Conv1d(2, 3, 1), nn.Unflatten(1, (2, 3)), block
    )


def snapshot(model: nn.Module) -> list[tuple[str, type, dict[str, Any]]]:
    return [(name, type(module), dict(vars(module))) for name, module in model.named_modules()]


def same(a: list[tuple[str, type, dict[str, Any]]], b: list[tuple[str, type, dict[str, Any]]]) -> bool:
    """By identity: the very parameters, buffers and hooks that were there."""
    return all(
        x[:2] == y[:2] and x[2].keys() == y[2].keys() and all(x[2][key] is y[2][key] for key in x[2])
        for x, y in zip(a, b, strict=True)
    )


def test_every_listed_layer_is_swapped_and_the_rest_named() -> None:
    conversion = torch_backprop.convert(model := classifier())
    assert conversion.left_alone == {"3": "Conv1d"}
    assert conversion.converted == {
        "0": "Linear", "1": "GELU", "2.0": "Linear", "2.1": "PReLU", "2.2": "Dropout", "4": "Unflatten",
    }  # fmt: skip
    assert str(conversion).splitlines() == ["converted 6 layers, left 1 alone", "  left alone: 3, Conv1d"]
    assert all(type(model.get_submodule(name)) in TWINS.values() for name in conversion.converted)


def test_a_module_with_parameters_of_its_own_is_named_though_it_has_children() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(2))

    conversion = torch_backprop.convert(nn.Sequential(Scaled()))
    assert conversion.left_alone == {"0": "Scaled"}


def test_a_transformer_is_converted_whole() -> None:
    model = nn.Transformer(4, 2, 1, 1, 8, batch_first=True)
    left = torch_backprop.convert(model).left_alone
    # of which attention takes the weights alone
    assert set(left.values()) == {"NonDynamicallyQuantizableLinear"}
    ours = torch_backprop.nn.Transformer(4, 2, 1, 1, 8, batch_first=True)
    assert [type(module) for module in model.modules()] == [type(module) for module in ours.modules()]
    torch_backprop.revert(model)
    assert all(type(module).__module__.startswith("torch.nn") for module in model.modules())


def test_parameters_hooks_training_flag_and_state_dict_survive() -> None:
    model = classifier().eval()
    seen: list[str] = []
    model[0].register_forward_hook(lambda *_: seen.append("hook"))
    before, state, text = list(model.parameters()), copy.deepcopy(model.state_dict()), repr(model)
    torch_backprop.convert(model)
    model[0](torch.randn(2, 5))
    assert seen == ["hook"]
    assert not any(module.training for module in model.modules())
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert repr(model) == text
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_revert_undoes_it_exactly() -> None:
    model = classifier()
    before = snapshot(model)
    torch_backprop.convert(model)
    assert not same(before, snapshot(model))
    torch_backprop.revert(model)
    assert same(before, snapshot(model))


def test_revert_leaves_layers_that_were_ours_before() -> None:
    model = nn.Sequential(torch_backprop.nn.Linear(2, 2), nn.Linear(2, 2))
    torch_backprop.convert(model)
    torch_backprop.revert(model)
    assert [type(layer) for layer in model] == [torch_backprop.nn.Linear, nn.Linear]


def test_a_converted_copy_reverts_and_converting_twice_is_converting_once() -> None:
    model = classifier()
    torch_backprop.convert(model)
    assert torch_backprop.convert(model).converted == {}
    twin = copy.deepcopy(model)
    torch_backprop.revert(twin)
    assert type(twin[0]) is nn.Linear
    assert type(model[0]) is torch_backprop.nn.Linear


def test_the_model_itself_and_subclasses() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    layer = nn.Linear(2, 2)
    assert torch_backprop.convert(layer).converted == {"": "Linear"}
    assert type(layer) is torch_backprop.nn.Linear
    assert torch_backprop.convert(Scaled(2, 2)).left_alone == {"": "Scaled"}


def test_ten_updates_of_a_converted_model_equal_the_built_in() -> None:
    def trained(model: nn.Module) -> dict[str, torch.Tensor]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        torch.manual_seed(2)
        x, t = torch.randn(12, 5, dtype=torch.float64), torch.randint(4, (12,))
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), t).backward()
            optimizer.step()
        return model.state_dict()

    def model() -> nn.Module:
        torch.manual_seed(1)
        layers = nn.Linear(5, 8), nn.Mish(), nn.Dropout(0.3), nn.Linear(8, 8), nn.GLU(), nn.Linear(4, 4)
        return nn.Sequential(*layers).double()

    ours = model()
    torch_backprop.convert(ours)
    expected = trained(model())
    for name, value in trained(ours).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("change", [torch_backprop.convert, torch_backprop.revert])
def test_what_is_no_module_is_refused(change: Any) -> None:
    with pytest.raises(TypeError, match=r"model is a list; give a torch\.nn\.Module"):
        change([nn.Linear(2, 2)])
