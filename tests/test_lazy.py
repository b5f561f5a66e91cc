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


def called_with_the_state_of(first: Any, module: Any, x: torch.Tensor) -> Any:
    module.load_state_dict(first.state_dict())
    try:
        return module(x)
    except ValueError as error:
        # torch's lazy instance normalization takes buffers from a state dict, but not their length
        return str(error)


@lazy
def test_a_state_dict_gives_it_its_shapes(spec: LayerSpec) -> None:
    (x,) = spec.cases[0].draw(torch.float32)
    builtin = built(spec.reference, spec)
    builtin(x)
    expected = called_with_the_state_of(builtin, built(spec.reference, spec), x)
    seen = called_with_the_state_of(builtin, built(spec.layer, spec), x)
    if isinstance(expected, str):
        assert seen == expected
    else:
        torch.testing.assert_close(seen, expected)


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
