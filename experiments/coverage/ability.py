"""What a layer can do, tried on its first case, and what it holds between its passes."""

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap
from torch.utils import _pytree as pytree

from experiments.benchmark.layers import Held
from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, LayerSpec

HEADS = ("layer", "derivation", "second order", "forward mode", "vmap", "compile", "bytes held", "frozen")

Function = Callable[..., list[Tensor]]
Leaves = tuple[Tensor, ...]
Ability = Callable[[Function, Leaves], Sequence[Tensor]]


def layers() -> dict[type[nn.Module], LayerSpec]:
    """The first spec of each layer."""
    first = {spec.layer: spec for spec in reversed(SPECS)}
    return dict(reversed(first.items()))


def cells(spec: LayerSpec) -> list[str]:
    """The row of one layer under ``HEADS``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(_cells(spec))


def _cells(spec: LayerSpec) -> Iterator[str]:
    path = spec.layer.__module__.removeprefix("torch_backprop.layers.").replace(".", "/")
    yield spec.layer.__name__
    yield f"[{path}](torch_backprop/layers/{path}.py)"
    for ability in (_second_order, _forward_mode, _vmap):
        yield "yes" if _can(ability, spec) else "no"
    yield _compiles(spec)
    held = Held.of(spec)
    yield _held(held.bytes, held.builtin_bytes)
    yield _held(held.frozen_bytes, held.builtin_frozen_bytes)


def _held(ours: int, builtin: int) -> str:
    if not builtin:
        return "0" if not ours else "more"
    share = f"{ours / builtin:.2g}" if ours else "0"
    return "same" if share == "1" else share if share == "0" else f"{share} of torch's"


def _can(ability: Ability, spec: LayerSpec) -> bool:
    """Whether the layer does it, and as the built-in does if that can; compiled, as itself does in eager."""
    ours = _outcome(ability, *_function(spec.cases[0], spec.layer))
    # compiled, a built-in may be decomposed into what it is not
    truth = (_gradients, spec.layer) if ability is _compile else (ability, spec.reference)
    expected = _outcome(truth[0], *_function(spec.cases[0], truth[1]))
    return ours is not None and (expected is None or all(map(_close, ours, expected)))


def _compiles(spec: LayerSpec) -> str:
    if _can(_compile, spec):
        return "yes"
    # Dynamo refuses every instance of the recurrent classes unless it is told otherwise
    with torch._dynamo.config.patch(allow_rnn=True):
        return "with `allow_rnn`" if _can(_compile, spec) else "no"


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def _outcome(ability: Ability, function: Function, leaves: Leaves) -> Sequence[Tensor] | None:
    torch.manual_seed(0)
    try:
        return ability(function, tuple(x.clone().requires_grad_() for x in leaves))
    except Exception:  # whatever it raises: it cannot
        return None


def _function(case: Case, kind: type[nn.Module]) -> tuple[Function, Leaves]:
    """The layer as a function of its inputs and parameters that can have a gradient."""
    module = case.called(case.build(kind, torch.float64))
    parameters = dict(module.named_parameters())
    inputs = case.draw(torch.float64)
    places = [i for i, x in enumerate(inputs) if x.is_floating_point()]

    def function(*leaves: Tensor) -> list[Tensor]:
        given = list(inputs)
        for place, leaf in zip(places, leaves, strict=False):
            # a layer that works in place may overwrite it
            given[place] = leaf.clone()
        # a transform refuses to write into a buffer that it does not know
        state = {name: buffer.clone() for name, buffer in module.named_buffers()}
        state |= dict(zip(parameters, leaves[len(places) :], strict=True))
        found = pytree.tree_leaves(functional_call(module, state, tuple(given)))
        return [y for y in found if isinstance(y, Tensor) and y.is_floating_point()]

    return function, (*(inputs[i] for i in places), *(p.detach() for p in parameters.values()))


def _second_order(function: Function, leaves: Leaves) -> Sequence[Tensor]:
    first = torch.autograd.grad(_cost(function(*leaves)), leaves, create_graph=True, materialize_grads=True)
    again = [g for g in first if g.requires_grad]
    return torch.autograd.grad(_cost(again), leaves, materialize_grads=True) if again else first


def _forward_mode(function: Function, leaves: Leaves) -> Sequence[Tensor]:
    return jvp(function, leaves, tuple(torch.ones_like(x) for x in leaves))[1]


def _vmap(function: Function, leaves: Leaves) -> Sequence[Tensor]:
    return vmap(function, randomness="same")(*(torch.stack((x, x)) for x in leaves))


def _compile(function: Function, leaves: Leaves) -> Sequence[Tensor]:
    torch._dynamo.reset()
    return _gradients(torch.compile(function, backend="aot_eager", fullgraph=True), leaves)


def _gradients(function: Function, leaves: Leaves) -> Sequence[Tensor]:
    return torch.autograd.grad(_cost(function(*leaves)), leaves, materialize_grads=True)


def _cost(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.square().sum() for x in tensors]).sum()
