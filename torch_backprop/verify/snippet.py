"""Writes a finding as a script of plain torch, which shows it without the verifier."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from .sample import Sample
from .target import Target, name_of

_LITERAL = 64
"""Elements up to which a tensor is written out."""

GRADIENT = """\
print(torch.autograd.grad(ys, leaves, gs, allow_unused=True))"""
TWICE = """\
print(torch.autograd.grad(ys, leaves, gs, allow_unused=True, retain_graph=True))
print(torch.autograd.grad(ys, leaves, gs, allow_unused=True))"""
SECOND = """\
first = torch.autograd.grad(ys, leaves, gs, allow_unused=True, create_graph=True)
first = [g for g in first if g is not None]
torch.autograd.backward(first, [torch.ones_like(g) for g in first])
print([leaf.grad for leaf in leaves])"""
LAYOUT = """\
gs = [torch.stack([g, g], -1)[..., 0] for g in gs]
print(torch.autograd.grad(ys, leaves, gs, allow_unused=True, retain_graph=True))
gs = [g.new_tensor(2).expand(g.shape) for g in gs]
print(torch.autograd.grad(ys, leaves, gs, allow_unused=True))"""
SCALED = """\
for factor in (-1e3, 1e-9):
    scaled = [factor * g for g in gs]
    found = torch.autograd.grad(ys, leaves, scaled, allow_unused=True, retain_graph=True)
    print([None if g is None else g / factor for g in found])"""
MUTATION = """\
before = [t.detach().clone() for t in (*leaves, *ys, *gs)]
torch.autograd.grad(ys, leaves, gs, allow_unused=True)
print([bool((a == b).all()) for a, b in zip(before, (*leaves, *ys, *gs))])"""
FUNC = """\
print(torch.func.grad(lambda *xs: sum(y.sum() for y in [candidate(*xs)]))(*arguments))"""


def snippet(candidate: Target, reference: Target | None, sample: Sample, recipe: str, expected: str) -> str:
    """The script: imports, the sample written out, the calls of the recipe."""
    names = list(sample.inputs)
    lines = ["from math import inf, nan", "", "import torch", "", _imported(candidate, "candidate")]
    if reference is not None:
        lines.append(_imported(reference, "reference"))
    lines += [f"{name} = {_literal(sample, name)}" for name in names]
    leaves = ", ".join(name for name in sample.leaves if name in names)
    lines += [
        f"arguments = [{', '.join(sample.words())}]",
        f"leaves = [{leaves}{', ' if leaves else ''}*getattr(candidate, 'parameters', list)()]",
        "torch.manual_seed(11)",
        "y = candidate(*arguments)",
        "ys = [t for t in (y if isinstance(y, (tuple, list)) else [y]) if t.requires_grad]",
        "gs = [torch.randn_like(t) for t in ys]",
        recipe,
        f"# expected: {expected}",
    ]
    return "\n".join(lines)


def _imported(target: Target, name: str) -> str:
    """An import, where the thing can be imported; else a place to fill in."""
    thing = target.function
    owner = getattr(thing, "__self__", None)
    found, suffix = (owner, ".apply") if isinstance(owner, type) and target.module is None else (thing, "")
    path = getattr(found, "__qualname__", type(found).__name__)
    for module in (getattr(found, "__module__", None), "torch", "torch.nn.functional"):
        for place in (path, path.split(".")[-1]):
            if _at(module, place) is found:
                top = place.split(".")[0]
                return f"from {module} import {top}\n{name} = {place}{suffix}"
    return f"{name} = ...  # {name_of(thing)}, as it was passed"


def _at(module: str | None, path: str) -> Any:
    """What stands there in a module that is loaded; None, if nothing does."""
    found: Any = sys.modules.get(module or "")
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _literal(sample: Sample, name: str) -> str:
    tensor = sample.layout(sample.tensors[name])
    leaf = ".requires_grad_()" if name in sample.leaves else ""
    if tensor.numel() > _LITERAL:
        written = f"torch.randn({tuple(tensor.shape)}, dtype={tensor.dtype})"
    else:
        written = f"torch.tensor({_listed(tensor)}, dtype={tensor.dtype})"
    if not tensor.is_contiguous():
        written = (
            f"torch.empty_strided({tuple(tensor.shape)}, {tensor.stride()}, dtype={tensor.dtype})"
            f".copy_({written})"
        )
    elif not tensor.numel():
        written = f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
    return written + leaf


def _listed(tensor: Tensor) -> Any:
    return tensor.detach().cpu().resolve_conj().tolist() if tensor.device.type != "meta" else []
