"""torch.compile, torch.export, and tensors without memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from torch_backprop.spec import Case, LayerSpec

from .agreement import Raised, agree, outcome
from .comparison import equal, tensor_facts
from .trial import SEED, Trial, draws, trials, values_and_gradients


def compiled(spec: LayerSpec, case: Case) -> None:
    """Compiled whole, the layer gives the eager values, gradients and random numbers."""
    _compiled(spec, case, "aot_eager")


def compiled_gradient(spec: LayerSpec, case: Case) -> None:
    """torch.func.grad of the layer, compiled."""
    # here Dynamo differentiates what a Function's forward calls, so the derivative is torch's, faults and all
    ours, builtin = trials(spec, case, corrected={})
    if not ours.leaves:
        return
    torch._dynamo.reset()
    expected, _ = outcome(_gradient, builtin, may_raise=True)
    if isinstance(expected, Raised):
        expected, _ = outcome(_gradient, trials(spec, case)[1])
    equal(_gradient(ours, compile=True), expected, f"{ours.title}: compiled torch.func.grad")


def inductor(spec: LayerSpec, case: Case) -> None:
    """Compiled to machine code; random numbers are drawn otherwise, so these layers are compared in eval."""
    train = case.train and not draws(trials(spec, case)[1])
    _compiled(spec, replace(case, train=train), "inductor")


def exported(spec: LayerSpec, case: Case) -> None:
    """The exported program computes the layer's values, and torch differentiates it by every leaf."""
    ours, builtin = trials(spec, case)
    program = torch.export.export(ours.module, ours.spare(ours.inputs))
    seen = replace(ours, module=program.module())
    agree(_differentiated, seen, builtin, "exported")


def _differentiated(trial: Trial) -> Any:
    output, gradients = values_and_gradients(trial)
    return output, [name for name, gradient in gradients.items() if gradient is not None]


def without_memory(spec: LayerSpec, case: Case) -> None:
    """On the meta device and on fake tensors: shapes, dtypes and strides of values and gradients."""
    ours, builtin = (_moved(trial, "meta") for trial in trials(spec, case))
    agree(_described, ours, builtin, "meta tensors", may_raise=True)
    ours, builtin = trials(spec, case)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        ours, builtin = (_faked(trial, mode) for trial in (ours, builtin))
        agree(_described, ours, builtin, "fake tensors", may_raise=True)


# Dynamo refuses every instance of the recurrent classes unless it is told otherwise
recurrent_too = torch._dynamo.config.patch(allow_rnn=True)


@recurrent_too
def _compiled(spec: LayerSpec, case: Case, backend: str) -> None:
    # Dynamo would take the code of an earlier layer for this one's until its cache is full
    torch._dynamo.reset()
    ours, builtin = trials(spec, case)
    ours = replace(ours, module=torch.compile(ours.module, fullgraph=True, backend=backend))
    expected, _ = outcome(values_and_gradients, builtin)
    # what the compiler itself warns of is no difference between two layers
    seen, _ = outcome(values_and_gradients, ours, may_raise=True)
    equal(seen, expected, f"{ours.title}: compiled by {backend}")


def _described(trial: Trial) -> Any:
    found = values_and_gradients(trial)
    return pytree.tree_map_only(Tensor, lambda tensor: tensor_facts(tensor, strides=True), found)


@recurrent_too
def _gradient(trial: Trial, compile: bool = False) -> Any:
    cost, leaves = trial.cost()
    gradient = torch.func.grad(cost, tuple(range(len(leaves))))
    torch.manual_seed(SEED)
    return (torch.compile(gradient, fullgraph=True, backend="aot_eager") if compile else gradient)(*leaves)


def _faked(trial: Trial, mode: FakeTensorMode) -> Trial:
    # Module.to cannot swap fake tensors in
    for module in trial.module.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module.register_parameter(name, torch.nn.Parameter(mode.from_tensor(parameter.detach())))
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, mode.from_tensor(buffer))
    return trial.on(mode.from_tensor)


def _moved(trial: Trial, device: str) -> Trial:
    return replace(trial.on(lambda x: x.to(device)), module=trial.module.to(device))
