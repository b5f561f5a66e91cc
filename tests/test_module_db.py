"""PyTorch's own samples for its modules, with our class in the place of the built-in."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from checks.agreement import Probe, agree
from checks.comparison import Comparison
from checks.corrected import CORRECTED, CORRECTED_SECOND_ORDER, Corrections
from checks.gradients import gradients_and_state
from checks.numerics import as_precise, widened
from checks.second_order import gradients_of_order
from checks.trial import SEED, Called, Trial
from checks.values import forward
from torch import nn
from torch.nn.modules.loss import _Loss as Loss
from torch.testing._internal.common_modules import ModuleInfo, module_db

from torch_backprop.nn import SPECS
from torch_backprop.spec import materialized

OURS: dict[Any, type[nn.Module]] = {spec.reference: spec.layer for spec in SPECS}
INFOS = [info for info in module_db if info.module_cls in OURS]
PROBES: dict[str, tuple[Probe, Corrections]] = {
    "values": (forward, {}),
    "gradients": (gradients_and_state, CORRECTED),
    "second gradients": (lambda trial: gradients_of_order(trial, 2), CORRECTED_SECOND_ORDER),
}

# among the samples are whole networks, through which rounding adds up; still far below 1e-9
THROUGH_NETWORKS = Comparison(ulps=1 << 12)

modules = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def samples(function: Any, info: ModuleInfo, dtype: torch.dtype, training: bool) -> Iterator[Any]:
    torch.manual_seed(SEED)
    drawn = list(function(info, device="cpu", dtype=dtype, requires_grad=False, training=training))
    # a loss is the same in training and in evaluation, and has up to 857: each is taken in one of the two
    yield from drawn[training::2] if issubclass(info.module_cls, Loss) else drawn


def trial(kind: Any, sample: Any, dtype: torch.dtype, training: bool = True) -> Trial:
    """The module that the sample describes, on the sample's inputs."""
    given = copy.deepcopy(sample.forward_input)
    named = {name: value for name, value in given.kwargs.items() if isinstance(value, torch.Tensor)}
    torch.manual_seed(SEED)
    module = materialized(build(kind, sample).to(dtype).train(training), *given.args)
    title = f"{kind.__name__}({sample.constructor_input.kwargs})"
    inplace = getattr(module, "inplace", False)
    if given.kwargs:
        module = Called(module, partial(by_name, given.kwargs, tuple(named)))
    return Trial(title, module, (*given.args, *named.values()), dtype, inplace)


def by_name(options: dict[str, Any], names: tuple[str, ...], layer: nn.Module, *inputs: Any) -> Any:
    """Calls the layer with the last inputs by these names, and with the options that are no tensors."""
    first = len(inputs) - len(names)
    return layer(*inputs[:first], **(options | dict(zip(names, inputs[first:], strict=True))))


def build(kind: Any, sample: Any) -> nn.Module:
    torch.manual_seed(SEED)
    # a constructor that both have may warn of the sample's choices
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(*sample.constructor_input.args, **sample.constructor_input.kwargs)


@modules
@modes
@pytest.mark.parametrize("probed", PROBES)
def test_samples(info: ModuleInfo, training: bool, probed: str) -> None:
    probe, corrected = PROBES[probed]
    kind = info.module_cls
    for sample in samples(info.module_inputs_func, info, torch.float64, training):
        ours = trial(OURS[kind], sample, torch.float64, training)
        builtin = trial(corrected.get(kind, kind), sample, torch.float64, training)
        agree(probe, ours, builtin, probed, may_raise=True, how=THROUGH_NETWORKS)


@modules
@modes
def test_float32_samples(info: ModuleInfo, training: bool) -> None:
    for sample in samples(info.module_inputs_func, info, torch.float32, training):
        ours = trial(OURS[info.module_cls], sample, torch.float32, training)
        builtin = trial(CORRECTED.get(info.module_cls, info.module_cls), sample, torch.float32, training)
        as_precise(ours, builtin, truth=widened(builtin))


@pytest.mark.parametrize("name", [info.name for info in INFOS if info.module_error_inputs_func])
def test_errors(name: str) -> None:
    (info,) = (info for info in INFOS if info.name == name)
    for error in samples(info.module_error_inputs_func, info, torch.float64, True):
        raised = []
        for kind in (info.module_cls, OURS[info.module_cls]):
            sample = error.module_error_input
            with pytest.raises(error.error_type) as caught:
                build(kind, sample)(*sample.forward_input.args)
            raised.append((caught.type, str(caught.value)))
        assert raised[1] == raised[0]


def test_every_module_that_torch_has_samples_of_is_ours() -> None:
    assert len(INFOS) >= 114
    assert [info.name for info in module_db if info.module_cls not in OURS] == []
