"""What autograd asks of every backward pass, beyond its numbers."""

from __future__ import annotations

import copy
import io
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from torch_backprop.spec import Case, LayerSpec

from .agreement import Raised, agree, outcome
from .comparison import equal
from .gradients import FEW, subsets
from .layouts import channels_last, empty
from .trial import SEED, Trial, differentiable, differentiate, draw_like, pull_back, trials


class _Operators(TorchDispatchMode):
    """Notes the name of every operator called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def by_hand(spec: LayerSpec, case: Case) -> None:
    """The first-order backward pass calls no operator that is itself one, whatever is asked of it."""
    trial, _ = trials(spec, case)
    others = [trials(spec, case, dtype)[0] for dtype in (torch.bfloat16, torch.complex128)]
    for other in (trial.on(empty), trial.on(channels_last), *others):
        _holds_by_hand(other, None)
    with torch.autocast("cpu", torch.bfloat16):
        _holds_by_hand(trial, None)
    for subset in subsets(tuple(trial.leaves)):
        _holds_by_hand(trial, subset)


def _holds_by_hand(trial: Trial, needs: tuple[str, ...] | None) -> None:
    found, _ = outcome(lambda t: _backward_operators(t, needs), trial, may_raise=True)
    assert isinstance(found, Raised) or not found, (
        f"{trial.title} in {trial.grain}, gradients of {needs or 'all'}: backward calls {found}, "
        "expected forward operators alone"
    )


def _backward_operators(trial: Trial, needs: tuple[str, ...] | None) -> list[str]:
    leaves = trial.need(needs)
    outputs = differentiable(trial.call())
    if not outputs:
        return []
    cotangents = [draw_like(y, trial.grain) for y in outputs]
    # only the rule's own nodes may be in the graph: the mode sees what torch's nodes call, too
    with _Operators() as operators:
        torch.autograd.grad(outputs, tuple(leaves.values()), cotangents, allow_unused=True)
    return [name for name in operators.names if "_backward" in name]


def mutation(spec: LayerSpec, case: Case) -> None:
    """Neither pass writes into what it was given, unless it was asked to work in place."""
    trial, _ = trials(spec, case)
    leaves = trial.need()
    before = _copies(trial.inputs + tuple(trial.module.parameters()))
    outputs = differentiable(trial.call())
    cotangents = [draw_like(y, trial.grain) for y in outputs]
    given = _copies(outputs + cotangents)
    torch.autograd.grad(outputs, tuple(leaves.values()), cotangents, allow_unused=True)
    equal(_copies(outputs + cotangents), given, f"{trial.title}: output and cotangent after backward")
    after = _copies(trial.inputs + tuple(trial.module.parameters()))
    equal(after, before, f"{trial.title}: inputs and parameters after backward")


def overwritten(spec: LayerSpec, case: Case) -> None:
    """Whatever the built-in does not keep may be overwritten between the passes: inputs, outputs, parameters.

    What it keeps may not be, and it raises; the layer raises then too, or its gradient is the right one.
    """
    names = tuple(trials(spec, case)[0].leaves)
    for needs in (names, *((name,) for name in names if 1 < len(names) <= FEW)):
        right, _ = outcome(lambda trial, to=needs: differentiate(trial, to), trials(spec, case)[1])
        ours, builtin = trials(spec, case, corrected={})
        kept = _kept(builtin, needs)
        if "inverted" in spec.properties:
            # it says of itself that it reads its parameters again
            kept |= {name for name, _ in ours.module.named_parameters()}
        everything = _given(ours, ours.inputs, ours.call())
        for which in (everything.keys() - kept, everything.keys() & kept):
            fresh, _ = trials(spec, case)
            seen, _ = outcome(lambda t, to=needs, w=which: _overwritten(t, to, w), fresh, may_raise=True)
            if not (which <= kept and isinstance(seen, Raised) and seen.kind is RuntimeError):
                equal(seen, right, f"{ours.title}: gradients of {needs} after {which} were overwritten")


def _given(trial: Trial, inputs: Any, output: Any) -> dict[str, Tensor]:
    """Every tensor that a caller can write into, by a name."""
    named = {f"input {i}": x for i, x in enumerate(pytree.tree_leaves(inputs))}
    named |= {f"output {i}": y for i, y in enumerate(pytree.tree_leaves(output))}
    named |= dict(trial.module.named_parameters()) | dict(trial.module.named_buffers())
    return {name: x for name, x in named.items() if isinstance(x, Tensor)}


def _kept(trial: Trial, needs: tuple[str, ...]) -> set[str]:
    """What of that is saved for the backward pass."""
    trial.need(needs)
    inputs = tuple(x.clone() for x in trial.inputs)
    places: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        places.add(tensor.untyped_storage().data_ptr())
        return tensor

    torch.manual_seed(SEED)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        given = _given(trial, inputs, trial.module(*inputs))
    return {name for name, x in given.items() if x.untyped_storage().data_ptr() in places}


def _overwritten(trial: Trial, needs: tuple[str, ...], which: Iterable[str]) -> Any:
    leaves = trial.need(needs)
    # a leaf that requires a gradient may not be overwritten, its clone may
    inputs = tuple(x.clone() for x in trial.inputs)
    torch.manual_seed(SEED)
    output = trial.module(*inputs)
    given = _given(trial, inputs, output)
    with torch.no_grad():
        for name in which:
            # no number that a layer begins with; and of classes 0, which there always is
            given[name].fill_(0.7 if given[name].is_floating_point() else 0)
    return pull_back(trial, output, leaves)


def in_place(spec: LayerSpec, case: Case) -> None:
    """On a leaf, on which torch forbids to work in place, and on a view, whose base must notice."""
    for probe in (_on_leaves, _on_views):
        agree(probe, *trials(spec, case), probe.__name__.strip("_").replace("_", " "), may_raise=True)


def leaks(spec: LayerSpec, case: Case) -> None:
    """A graph dies with its output, without the help of the garbage collector."""
    trial, _ = trials(spec, case)
    trial.need()
    # the inputs are clones, because a layer may return its input, which this trial holds
    output = trial.call(*(x.clone() for x in trial.inputs))
    watched = [weakref.ref(y) for y in differentiable(output)]
    del output
    assert all(y() is None for y in watched), f"{trial.title}: the output outlives its last reference"


def copies(spec: LayerSpec, case: Case) -> None:
    """A layer that is copied or saved and loaded is the same layer."""
    trial, builtin = trials(spec, case)
    file = io.BytesIO()
    torch.save(trial.module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for module in (copy.deepcopy(trial.module), loaded):
        assert type(module) is type(trial.module), f"{trial.title}: a copy is {type(module)}"
        copied = Trial(trial.title, module, trial.inputs, trial.grain, trial.inplace)
        agree(differentiate, copied, builtin, "gradients of a copy")


def checkpointing(spec: LayerSpec, case: Case) -> None:
    """Run again in the backward pass, the layer gives the same gradients."""
    agree(_checkpointed, *trials(spec, case), "activation checkpointing")


def _checkpointed(trial: Trial) -> Any:
    leaves = trial.need()
    torch.manual_seed(7)
    output = checkpoint(lambda *x: trial.module(*trial.spare(x)), *trial.inputs, use_reentrant=False)
    return pull_back(trial, output, leaves)


def _on_leaves(trial: Trial) -> Any:
    leaves = trial.need()
    torch.manual_seed(SEED)
    return pull_back(trial, trial.module(*trial.inputs), leaves)


def _on_views(trial: Trial) -> Any:
    leaves = trial.need()
    torch.manual_seed(SEED)
    bases = [x.clone() for x in trial.inputs]
    output = trial.module(*(x.view(x.shape) for x in bases))
    return pull_back(trial, (output, *bases), leaves)


def _copies(tensors: Any) -> list[Any]:
    return [(x.detach().clone(), x._version) for x in tensors]
