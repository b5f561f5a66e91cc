"""The checks: each a function of a layer's spec and one of its cases, which fails with what it saw.

A check is differential: it asks the same of the layer and of the built-in, so that what the built-in does too
is no fault, be it an error. None has a list of layers to leave out, or a tolerance of one layer's own.
"""

from . import (
    algorithm,
    compilation,
    contract,
    device,
    gradients,
    memory,
    numerics,
    second_order,
    transforms,
    values,
)

CHECKS = (
    values.values,
    values.sizes,
    values.dtypes,
    values.state,
    gradients.gradients,
    gradients.gradient_layouts,
    gradients.cotangents,
    gradients.large,
    gradients.complex_numbers,
    gradients.needs,
    gradients.unused,
    gradients.repeated,
    second_order.double_backward,
    second_order.constants,
    second_order.directional,
    second_order.hessians,
    transforms.tangents,
    transforms.batched,
    transforms.shared,
    transforms.batched_cotangents,
    numerics.extremes,
    numerics.low_precision,
    numerics.autocast,
    memory.memory,
    contract.by_hand,
    contract.mutation,
    contract.overwritten,
    contract.in_place,
    contract.leaks,
    contract.copies,
    contract.checkpointing,
    compilation.without_memory,
    device.other_device,
    algorithm.without_autograd,
)
"""Held on every case of every layer."""

COMPILED_CHECKS = (compilation.compiled, compilation.compiled_gradient, compilation.exported)
"""Held on one case of every layer: each takes seconds."""

INDUCTOR_CHECK = compilation.inductor
"""Held on one layer of every family: it takes many seconds."""
