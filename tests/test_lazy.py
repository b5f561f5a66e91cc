"""Lazy layers: like torch's until the first call, and by it one of ours."""

from typing import Any

import pytest
import torch
from torch.nn.modules.lazy import LazyModuleMixin

import torch_backprop
from experiments.held import nodes_of
from torch_backprop.nn import SPECS
from torch_backprop.spec import LayerSpec

LAZY = [spec for spec in SPECS if issubclass(spec.layer, LazyModuleMixin)]

lazy = pytest.mark.parametrize("spec", LAZY, ids=lambda spec: spec.layer.__name__)


def built(kind: Any, spec: LayerSpec) -> Any:
    return kind(**spec.cases[0].options)


@lazy
def test_the_first_call_is_that_of_the_layer_which_it_becomes(spec: LayerSpec) -> None:
    (x,) = spec.cases[0].draw(torch.float32)
    x.requires_grad_()
    ours, builtin = built(spec.layer, spec), built(spec.reference, spec)
    assert repr(ours) == repr(builtin)
    # its parameters are drawn now
    torch.manual_seed(0)
    y = ours(x)
    torch.manual_seed(0)
    expected = builtin(x)
    assert type(ours) is getattr(torch_backprop.nn, type(builtin).__name__)
    assert repr(ours) == repr(builtin)
    torch.testing.assert_close(y, expected)
    assert any("Rule" in type(node).__name__ for node in nodes_of(y))


@lazy
def test_a_state_dict_gives_it_its_shapes(spec: LayerSpec) -> None:
    (x,) = spec.cases[0].draw(torch.float32)
    builtin, ours = built(spec.reference, spec), built(spec.layer, spec)
    expected = builtin(x)
    # without a tensor in it, a state dict gives no shapes
    if builtin.state_dict():
        ours.load_state_dict(builtin.state_dict())
    torch.testing.assert_close(ours(x), expected)


@lazy
def test_conversion_and_its_undoing_before_and_after_the_first_call(spec: LayerSpec) -> None:
    (x,) = spec.cases[0].draw(torch.float32)
    model = built(spec.reference, spec)
    torch_backprop.convert(model)
    assert type(model) is spec.layer
    torch_backprop.revert(model)
    assert type(model) is spec.reference
    torch_backprop.convert(model)
    model(x)
    assert type(model) is spec.layer.cls_to_become  # pyright: ignore[reportAttributeAccessIssue]
    torch_backprop.revert(model)
    assert type(model) is spec.reference.cls_to_become  # pyright: ignore[reportAttributeAccessIssue]
