"""The public names: torch's, with torch's signatures, and none missing from the one list of layers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import torch_backprop.layers
from torch_backprop import functional, nn
from torch_backprop.spec import LayerSpec

LAYERS = [name for name, value in vars(nn).items() if inspect.isclass(value)]
REFERENCES = {spec.layer.__name__: spec.reference for spec in nn.SPECS}
FUNCTIONS = [name for name, value in vars(functional).items() if inspect.isfunction(value)]


def declared() -> Iterator[LayerSpec]:
    """Every spec in every layer file."""
    for module in pkgutil.walk_packages(torch_backprop.layers.__path__, "torch_backprop.layers."):
        yield from getattr(importlib.import_module(module.name), "SPECS", ())


def parameters(signature: inspect.Signature) -> list[tuple[object, ...]]:
    """Names, defaults and kinds; torch annotates less than it documents."""
    return [(p.name, p.default, p.kind) for p in signature.parameters.values()]


def signature_of(function: Any) -> inspect.Signature:
    """The signature, which a function written in C only has in the first line of its docstring."""
    try:
        return inspect.signature(function)
    except ValueError:
        described = re.search(r"\((.*?)\) -> Tensor", function.__doc__, re.DOTALL)
        assert described
        return inspect.signature(eval(f"(lambda {described[1]}: None)"))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_built_as_torch_builds_it(name: str) -> None:
    ours, builtin = getattr(nn, name), REFERENCES[name]
    assert issubclass(ours, builtin)
    assert inspect.signature(ours) == inspect.signature(builtin)
    forward, expected = inspect.signature(ours.forward), inspect.signature(builtin.forward)
    assert list(forward.parameters) == list(expected.parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_the_signature_of_torch(name: str) -> None:
    # a few functions on which layers rest are elsewhere in torch
    builtin = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    ours = getattr(functional, name)
    if parameters(signature_of(builtin)) == parameters(inspect.signature(lambda *args, **kwargs: None)):
        # torch chooses one of two functions by return_indices; both have the signature that it documents
        builtin = getattr(torch.nn.functional, f"_{name}")
    assert parameters(inspect.signature(ours)) == parameters(signature_of(builtin))


def test_the_list_of_layers_is_complete() -> None:
    listed = {spec.layer for spec in nn.SPECS}
    assert listed == {spec.layer for spec in declared()}
    assert listed == {getattr(nn, name) for name in LAYERS}


def test_every_layer_stands_against_the_built_in_of_its_name() -> None:
    for spec in nn.SPECS:
        name = spec.layer.__name__
        # what torch does not have stands against its formula, operator by operator
        formula = getattr(inspect.getmodule(spec.layer), f"Plain{name}", None)
        assert spec.reference is getattr(torch.nn, name, formula)
        assert spec.cases


NO_FUNCTIONS_OF_THEIR_OWN = {f"{name}_" for name in FUNCTIONS} | {
    *("upsample", "upsample_bilinear", "upsample_nearest", "native_channel_shuffle"),
    *("assert_int_or_pair", "boolean_dispatch"),
}
NO_GRADIENT = {"one_hot"}
OF_NO_LAYER = {"conv_tbc", "grouped_mm", "scaled_grouped_mm", "scaled_mm"}
CONTAINERS = {
    "DataParallel",
    "Module",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "Sequential",
}
BASES = {"Container", "RNNBase", "RNNCellBase"}


def test_nothing_of_torch_is_left_out() -> None:
    modules = {name for name, kind in vars(torch.nn).items() if inspect.isclass(kind)}
    modules = {name for name in modules if issubclass(getattr(torch.nn, name), torch.nn.Module)}
    assert modules - set(nn.__all__) == CONTAINERS | BASES
    given = {name for name, value in vars(torch.nn.functional).items() if callable(value) and name[0] != "_"}
    given = {name for name in given if "torch_function" not in name and name[0].islower()}
    left_out = given - set(functional.__all__)
    assert left_out <= NO_FUNCTIONS_OF_THEIR_OWN | NO_GRADIENT | OF_NO_LAYER, left_out


def test_public_names_are_listed() -> None:
    assert set(nn.__all__) == set(LAYERS)
    assert set(functional.__all__) == set(FUNCTIONS)


@pytest.mark.parametrize("training", [True, False])
def test_slopes_in_the_wrong_order_are_refused_in_the_words_of_torch(training: bool) -> None:
    with pytest.raises(RuntimeError, match="Lower bound should be less than or equal to the upper bound"):
        functional.rrelu(torch.ones(2), 0.5, 0.1, training)
