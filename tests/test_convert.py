"""convert and revert: class swaps that keep everything but the class."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize

import torch_backprop
from torch_backprop.twins import TWINS


class Halved(nn.Module):
    """Not of torch, with a call of torch.nn.functional."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input / 2, -1)


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.PReLU(), nn.Dropout(0.5))
    return nn.Sequential(nn.Linear(5, 6), nn.GELU(), block, Halved(), nn.Unflatten(1, (2, 3)), block)


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
    why = "Halved: computes in a forward of its own; what it calls can be patched()"
    assert conversion.left_alone == {"3": why}
    assert conversion.converted == {
        "0": "Linear", "1": "GELU", "2.0": "Linear", "2.1": "PReLU", "2.2": "Dropout", "4": "Unflatten",
    }  # fmt: skip
    assert str(conversion).splitlines() == ["converted 6 layers, left 1 alone", f"  left alone: 3, {why}"]
    assert all(type(model.get_submodule(name)) in TWINS.values() for name in conversion.converted)


def test_a_module_with_parameters_of_its_own_is_named_though_it_has_children() -> None:
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(2, 2))
            self.scale = nn.Parameter(torch.ones(2))

    left_alone = torch_backprop.convert(nn.Sequential(Scaled())).left_alone
    assert left_alone == {"0": "Scaled: computes in a forward of its own; what it calls can be patched()"}


def test_a_transformer_is_converted_whole() -> None:
    options: dict[str, Any] = {"d_model": 4, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1}
    model = nn.Transformer(**options, batch_first=True)
    assert torch_backprop.convert(model).left_alone == {}
    ours = torch_backprop.nn.Transformer(**options, batch_first=True)
    assert repr(model) == repr(ours)
    for seen, expected in zip(model.modules(), ours.modules(), strict=True):
        # attention's projection is a subclass of Linear in torch
        assert isinstance(seen, torch_backprop.nn.Linear) or type(seen) is type(expected)
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


def test_the_model_itself() -> None:
    layer = nn.Linear(2, 2)
    assert torch_backprop.convert(layer).converted == {"": "Linear"}
    assert type(layer) is torch_backprop.nn.Linear


def test_a_shared_layer_is_chosen_by_any_of_its_names() -> None:
    def model() -> nn.Module:
        layer = nn.Linear(2, 2)
        return nn.ModuleDict({"encoder": layer, "decoder": nn.Sequential(layer, nn.Tanh())})

    assert torch_backprop.convert(model(), only="decoder.0").converted == {"encoder": "Linear"}
    conversion = torch_backprop.convert(model(), except_="decoder.0")
    assert conversion.converted == {"decoder.1": "Tanh"}
    assert conversion.left_alone == {"encoder": "Linear: not chosen"}


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


@pytest.mark.parametrize(
    ("options", "converted"),
    [
        ({"only": nn.Linear}, ["0", "2.0"]),
        ({"only": "2.*"}, ["2.0", "2.1", "2.2"]),
        ({"only": ("0", nn.GELU), "except_": "0"}, ["1"]),
        ({"except_": [nn.Linear, nn.Dropout, nn.Unflatten]}, ["1", "2.1"]),
    ],
)
def test_layers_are_chosen_by_class_and_by_name(options: dict[str, Any], converted: list[str]) -> None:
    conversion = torch_backprop.convert(classifier(), **options)
    assert list(conversion.converted) == converted
    assert all(("not chosen" in why) == (name != "3") for name, why in conversion.left_alone.items())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"only": "encodr.*"}, ValueError, r"only: 'encodr\.\*' matches no module"),
        ({"except_": [3]}, TypeError, "except_: 3 is neither a class of modules nor a pattern of names"),
        ({"only": torch.Tensor}, TypeError, "only: <class 'torch.Tensor'> is neither"),
        ({"only": nn.Flatten()}, TypeError, r"only: Flatten\(.*\) is neither"),
        ({"except_": None}, TypeError, "except_: None is neither"),
    ],
)
def test_a_choice_of_nothing_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    model = classifier()
    with pytest.raises(error, match=words):
        torch_backprop.convert(model, **options)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("parametrization", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrizations_go_on(parametrization: Any) -> None:
    def gradients(model: nn.Module) -> list[Tensor]:
        model(torch.ones(3, 4)).square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    torch.manual_seed(0)
    builtin = parametrization(nn.Linear(4, 4))
    ours = copy.deepcopy(builtin)
    assert list(torch_backprop.convert(ours).converted) == [""]
    assert isinstance(ours, torch_backprop.nn.Linear)
    torch.testing.assert_close(gradients(ours), gradients(builtin))
    parametrize.remove_parametrizations(ours, "weight")
    assert type(ours) is torch_backprop.nn.Linear
    torch_backprop.revert(ours)
    assert type(ours) is nn.Linear


def test_a_parametrized_layer_reverts() -> None:
    model = parametrizations.weight_norm(nn.Linear(4, 4))
    torch_backprop.convert(model)
    torch_backprop.revert(model)
    assert [kind.__name__ for kind in type(model).__mro__[:2]] == ["ParametrizedLinear", "Linear"]
    assert not isinstance(model, torch_backprop.nn.Linear)


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    torch_backprop.convert(model)
    model(torch.ones(1, 3)).sum().backward()
    assert model[1].weight is model[0].weight
    assert len(list(model.parameters())) == 1


def test_a_model_wrapped_for_data_parallel_training_is_converted_within(tmp_path: Path) -> None:
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model = DistributedDataParallel(nn.Linear(3, 2))
        assert torch_backprop.convert(model).converted == {"module": "Linear"}
        model(torch.ones(4, 3)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_what_has_become_another_class_since_is_left_as_it_is() -> None:
    layer = nn.Linear(2, 2)
    torch_backprop.convert(layer)
    layer.__class__ = nn.Linear
    torch_backprop.revert(layer)
    assert type(layer) is nn.Linear


def compiled_in_place() -> nn.Module:
    model = nn.Linear(2, 2)
    model.compile()
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: torch.compile(nn.Linear(2, 2)), "the model is compiled: convert"),
        (lambda: nn.Sequential(compiled_in_place()), "0 is compiled: convert"),
        (lambda: torch.jit.script(nn.Linear(2, 2)), "the model is a script: convert"),
    ],
)
@pytest.mark.parametrize("change", [torch_backprop.convert, torch_backprop.revert])
def test_what_is_fixed_already_is_refused(model: Any, words: str, change: Any) -> None:
    with pytest.raises(ValueError, match=words):
        change(model())
