"""Numbers at the edge: extremes, half precision, autocast."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.spec import Case, Draw, LayerSpec

from .agreement import Raised, agree, outcome
from .comparison import Comparison, equal, farthest, off, size
from .layouts import step2
from .trial import SEED, Gradients, Trial, draws, pull_back, trials, values_and_gradients

RATIO = 8
"""How many times the built-in's own error, or a unit of rounding, an error may be."""

REAL = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, -20.0, 88.0, -88.0, 104.0, -104.0, 1e4, -1e4)
TINY = (1e-30, -1e-30, 1e-40, -1e-10, 1e-4)
NOT_FINITE = (float("inf"), -float("inf"), float("nan"))
Numbers = tuple[float, ...]
UNIT = (0.0, 1.0, 1e-30, 0.5, 1 - 1e-7)


def extremes(spec: LayerSpec, case: Case) -> None:
    """Kinks, saturation, overflow, infinities and NaN: what the built-in gives, NaN for NaN."""
    for dtype in (torch.float64, torch.float32):
        for numbers in (REAL, TINY, *((number,) for number in NOT_FINITE)):
            for cotangent in (None, float("inf")):
                name = f"values and gradients in {dtype} at {numbers}, cotangent {cotangent or 'normal'}"
                _extreme(spec, case, dtype, numbers, cotangent, name)


def _extreme(
    spec: LayerSpec, case: Case, dtype: torch.dtype, numbers: Numbers, cotangent: float | None, name: str
) -> None:
    fill = None if cotangent is None else partial(torch.full_like, fill_value=cotangent)

    def probe(trial: Trial) -> Any:
        return values_and_gradients(trial, fill)

    ours, builtin = (_filled(trial, case, numbers) for trial in trials(spec, case, dtype))
    expected, _ = outcome(probe, builtin, may_raise=True)
    seen, _ = outcome(probe, ours, may_raise=True)
    floor = torch.finfo(dtype).eps
    if not any(Comparison(floor=floor).differences(seen, expected)):
        # as most do: nothing has to be settled
        return
    if not isinstance(expected, Raised) and not isinstance(seen, Raised):
        # an input of a kind that holds no NaN was not filled with it
        undefined = any(isinstance(x, Tensor) and bool(x.isnan().any()) for x in ours.inputs)
        settled = partial(_settled, undefined, math.isinf(numbers[0]), cotangent is not None)
        # inputs with gaps take the scalar kernel, large ones the vectorized; a clone would have no gaps
        builtin = replace(builtin, inplace=False, module=_out_of_place(builtin.module))
        for other in (builtin.on(step2), builtin.on(_repeated)):
            elsewhere, _ = outcome(probe, other, may_raise=True)
            if not isinstance(elsewhere, Raised):
                seen = pytree.tree_map(settled, seen, expected, elsewhere)
    if "inverted" in spec.properties and not isinstance(seen, Raised) and not isinstance(expected, Raised):
        # the input is recovered to the rounding of the output, of which all is of the size of the largest
        floor *= max(1.0, *(size(x) for x in pytree.tree_leaves((seen[0], ours.inputs))))
        seen = seen[0], pytree.tree_map(partial(_recovered, math.isfinite(numbers[0])), seen[1], expected[1])
    equal(seen, expected, f"{ours.title}: {name}", Comparison(floor=floor))


def _recovered(possible: bool, seen: Any, expected: Any) -> Any:
    """The gradient seen; where no input can be recovered, without what owns that it is no number."""
    return seen if possible else torch.where(seen.isnan(), expected, seen)


def _settled(
    undefined: bool, infinite: bool, overflown: bool, seen: Any, expected: Any, elsewhere: Any
) -> Any:
    """The numbers seen, without those on which there is nothing to agree.

    torch's vectorized and scalar kernels differ where the input is undefined: either is right. Where the
    built-in makes NaN of an infinite input, the limit will do. Of an overflown cotangent all that matters is
    that the gradient is not finite: that tells a gradient scaler to skip the step.
    """
    if not isinstance(expected, Tensor) or not isinstance(seen, Tensor) or seen.shape != expected.shape:
        return seen
    if undefined:
        elsewhere = elsewhere.reshape(-1)[: expected.numel()].reshape(expected.shape)
        unsettled = ~torch.isclose(expected, elsewhere, equal_nan=True)
    else:
        unsettled = expected.isnan() & infinite
    unsettled |= ~expected.isfinite() & ~seen.isfinite() & overflown
    return torch.where(unsettled, expected, seen)


def _repeated(x: Tensor) -> Tensor:
    return x.repeat(16, *(1 for _ in x.shape[1:]))


def _out_of_place(module: Any) -> Any:
    copied = deepcopy(module)
    if hasattr(copied, "inplace"):
        copied.inplace = False
    return copied


def low_precision(spec: LayerSpec, case: Case) -> None:
    """In float32 and below, the error is at most a few times the built-in's own."""
    random = draws(trials(spec, case)[1])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        ours, builtin = trials(spec, case, dtype)
        # other random numbers are drawn in float64
        as_precise(ours, builtin, truth=builtin if random else widened(builtin))
    # of the last: a tangent is in its output's dtype, where the built-in has forward mode
    expected, _ = outcome(_tangent_dtypes, builtin, may_raise=True)
    if not isinstance(expected, Raised):
        equal(_tangent_dtypes(ours), expected, f"{ours.title}: dtypes of tangents")


def _tangent_dtypes(trial: Trial) -> list[torch.dtype]:
    function, leaves = trial.function()
    torch.manual_seed(SEED)
    found = torch.func.jvp(function, leaves, leaves)[1]
    return [x.dtype for x in pytree.tree_leaves(found)]


def as_precise(ours: Trial, builtin: Trial, truth: Trial) -> None:
    """Fails if the values or gradients are further from the truth than the built-in's explain."""
    expected, _ = outcome(values_and_gradients, builtin, may_raise=True)
    seen, _ = outcome(values_and_gradients, ours, may_raise=True)
    if isinstance(expected, Raised) or isinstance(seen, Raised):
        equal(seen, expected, ours.title)
        return
    exact, _ = outcome(values_and_gradients, truth)
    found, known, right = map(_by_name, (seen, expected, exact))
    # through layers, or steps in time, errors spread, and one tensor's own may be small by luck
    network = next(ours.layer.children(), None) is not None or isinstance(ours.layer, torch.nn.RNNBase)
    usual = max(map(_relative_error, known.values(), right.values())) if network else 0.0
    for name, *compared in zip(found, found.values(), known.values(), right.values(), strict=True):
        if isinstance(compared[0], Tensor) and compared[0].is_floating_point():
            _small_error(f"{ours.title}: {name} in {compared[0].dtype}", usual, *compared)
        else:
            # indices, which rounding may make others than the truth's
            equal(compared[0], compared[1], f"{ours.title}: {name}")


def _by_name(values: tuple[Any, Gradients]) -> dict[str, Any]:
    output, gradients = values
    return {f"output{i}": y for i, y in enumerate(pytree.tree_leaves(output))} | gradients


def autocast(spec: LayerSpec, case: Case) -> None:
    """Under autocast: dtypes, values and gradients, with the backward pass outside and inside."""
    how = Comparison(RATIO, torch.finfo(torch.bfloat16).eps)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for inside in (False, True):
            name = f"autocast of {dtype}, backward {'inside' if inside else 'outside'}"
            agree(
                lambda t, to=inside: _autocast(t, to),
                *trials(spec, case, dtype),
                name,
                may_raise=True,
                how=how,
            )


def _filled(trial: Trial, case: Case, numbers: Numbers) -> Trial:
    """The trial with its inputs overwritten by ``numbers``, as far as their kind takes them."""

    def fill(x: Tensor, draw: Draw) -> Tensor:
        chosen = {"normal": numbers, "unit": UNIT}.get(draw.kind)
        if chosen is None or not x.numel():
            return x
        repeated = torch.tensor(chosen, dtype=x.dtype).repeat(1 + x.numel() // len(chosen))
        # each input starts elsewhere, so that two inputs of a layer differ
        start = len(draw.shape)
        return repeated.roll(start)[: x.numel()].reshape(x.shape)

    return replace(trial, inputs=tuple(map(fill, trial.inputs, case.inputs)))


def widened(trial: Trial) -> Trial:
    """The same numbers in float64: what the lower precision should have computed."""
    inputs = pytree.tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, trial.inputs)
    return replace(trial, module=deepcopy(trial.module).double(), inputs=inputs)


def _relative_error(seen: Any, truth: Any) -> float:
    if not isinstance(seen, Tensor) or not seen.is_floating_point() or not size(truth):
        return 0.0
    return farthest(seen, truth) / size(truth)


def _small_error(title: str, usual: float, seen: Any, expected: Any, truth: Any) -> None:
    assert seen.dtype == expected.dtype, f"{title} is {seen.dtype}, expected {expected.dtype}"
    bound = RATIO * max(farthest(expected, truth), max(usual, torch.finfo(seen.dtype).eps) * size(truth))
    if farthest(seen, truth) > bound:
        raise AssertionError(f"{title} {off(seen, truth, bound)}")


def _autocast(trial: Trial, inside: bool) -> Any:
    leaves = trial.need()
    with torch.autocast("cpu", torch.bfloat16):
        output = trial.call()
        if inside:
            return output, pull_back(trial, output, leaves)
    return output, pull_back(trial, output, leaves)
