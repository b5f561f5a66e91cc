"""The forward pass: values, dtypes, strides, random numbers, state; on every layout, size and dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.spec import Case, LayerSpec

from .agreement import agree
from .comparison import WITH_STRIDES, equal
from .layouts import DENSE, SIZES, SPARSE
from .trial import SEED, Trial, trials

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WRONG_DTYPES = (torch.int64, torch.uint8, torch.bool, torch.complex64)


def forward(trial: Trial) -> dict[str, Any]:
    """Everything that a caller can see of a call."""
    inputs = trial.inputs
    torch.manual_seed(SEED)
    # straight on the inputs, which a layer that works in place is to overwrite
    output = trial.module(*inputs)
    return {
        "output": output,
        "inputs": inputs,
        "buffers": dict(trial.module.named_buffers()),
        "random state": torch.get_rng_state(),
        "is input": output is inputs[0],
        "shares memory": isinstance(output, Tensor) and _address(output) in map(_address, inputs),
        "requires grad": isinstance(output, Tensor) and (output.requires_grad, output.is_leaf),
    }


def _address(given: Any) -> int | None:
    if not isinstance(given, Tensor):
        return None
    # empty tensors share the null address
    return given.untyped_storage().data_ptr() if given.numel() else 0


def values(spec: LayerSpec, case: Case) -> None:
    """The same numbers, laid out the same, with and without a graph."""
    for layout in DENSE + SPARSE:
        ours, builtin = (trial.on(layout) for trial in trials(spec, case, corrected={}))
        agree(forward, ours, builtin, f"forward, {layout.__name__} inputs", may_raise=True, how=WITH_STRIDES)
    for context in (torch.no_grad, torch.inference_mode):
        ours, builtin = trials(spec, case, corrected={})
        with context():
            agree(forward, ours, builtin, f"forward under {context.__name__}", how=WITH_STRIDES)


def sizes(spec: LayerSpec, case: Case) -> None:
    """No elements, and no dimensions: the same outcome, which may be an error."""
    for layout in SIZES:
        ours, builtin = (trial.on(layout) for trial in trials(spec, case, corrected={}))
        agree(forward, ours, builtin, f"forward, {layout.__name__} inputs", may_raise=True, how=WITH_STRIDES)


def dtypes(spec: LayerSpec, case: Case) -> None:
    """The dtype of the whole layer, and inputs of a dtype that may not fit it."""
    for dtype in DTYPES:
        agree(
            forward,
            *trials(spec, case, dtype, corrected={}),
            f"forward in {dtype}",
            may_raise=True,
            how=WITH_STRIDES,
        )
    for dtype in DTYPES + WRONG_DTYPES:
        ours, builtin = (trial.on(lambda x, to=dtype: x.to(to)) for trial in trials(spec, case, corrected={}))
        agree(forward, ours, builtin, f"forward, inputs in {dtype}", may_raise=True, how=WITH_STRIDES)


def state(spec: LayerSpec, case: Case) -> None:
    """Constructor, parameters, buffers and text are the built-in's."""
    ours, builtin = trials(spec, case, corrected={})
    # a lazy layer has become another, as the built-in has
    reference = type(builtin.layer)
    assert isinstance(ours.layer, reference), f"{ours.title} is no {reference.__name__}"
    equal(repr(ours.module), repr(builtin.module), f"{ours.title}: repr")
    equal(dict(ours.module.state_dict()), dict(builtin.module.state_dict()), f"{ours.title}: state_dict")
    equal(dict(ours.module.named_buffers()), dict(builtin.module.named_buffers()), f"{ours.title}: buffers")
