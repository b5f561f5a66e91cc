"""Every case of every layer, held to every check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from checks import CHECKS, COMPILED_CHECKS, INDUCTOR_CHECK
from torch.nn.modules.lazy import LazyModuleMixin

from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, LayerSpec

Check = Callable[[LayerSpec, Case], None]


def every_case() -> Iterator[Any]:
    for spec in SPECS:
        for case in spec.cases:
            yield pytest.param(spec, case, id=f"{spec.layer.__name__}-{case}")


def one_case() -> Iterator[Any]:
    for spec in SPECS:
        # a lazy layer that has been called is of the class that it stands for, which is held by itself
        if not issubclass(spec.layer, LazyModuleMixin):
            yield pytest.param(spec, spec.cases[0], id=spec.layer.__name__)


def one_layer_of_each_family() -> Iterator[Any]:
    # the first folder or file under layers/; later keys overwrite earlier ones
    firsts = {spec.layer.__module__.split(".")[2]: spec for spec in reversed(SPECS)}
    for spec in firsts.values():
        yield pytest.param(spec, spec.cases[0], id=spec.layer.__name__)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("spec", "case"), list(every_case()))
def test_layer(spec: LayerSpec, case: Case, check: Check) -> None:
    check(spec, case)


@pytest.mark.slow
@pytest.mark.parametrize("check", COMPILED_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("spec", "case"), list(one_case()))
def test_compiled_layer(spec: LayerSpec, case: Case, check: Check) -> None:
    check(spec, case)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "case"), list(one_layer_of_each_family()))
def test_layer_compiled_by_inductor(spec: LayerSpec, case: Case) -> None:
    INDUCTOR_CHECK(spec, case)
