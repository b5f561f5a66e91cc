"""Writes a finding as a script: the candidate, the sample written out, and the one probe that sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .place import imported, rebuilt
from .sample import Sample
from .target import Target

_LITERAL = 200
"""Elements up to which a tensor is written out."""


class _Name(str):
    """A name that stands for itself in a list of arguments."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def snippet(
    candidate: Target, reference: Target | None, given: Sample, probe: str, sample: str, **options: Any
) -> str:
    """The script.

    Args:
        candidate: what is verified.
        reference: what is right; None: the candidate's own forward.
        given: the sample that is handed to ``check``.
        probe: the name of the one probe that looks; empty: all look.
        sample: the name of the sample, derived from the given one, at which it looks.
        options: of ``check``, beside these.
    """
    only: dict[str, Any] = {"probes": (probe,), "samples": (sample,)} if probe else {}
    lines = [*_target(candidate, given, "candidate")]
    if reference is not None:
        lines += _target(reference, given, "reference")
        only = {"reference": _Name("reference")} | only
    lines += [f"{name} = {_literal(given, name)}" for name in given.inputs]
    words = [
        "candidate",
        *_arguments(given),
        *(f"{key}={value!r}" for key, value in (only | options).items()),
    ]
    imports = ["import torch", "", "from torch_backprop.verify import check"]
    if numbers := [word for word in ("inf", "nan") if re.search(rf"\b{word}\b", "\n".join(lines + words))]:
        imports.insert(0, f"from math import {', '.join(numbers)}\n")
    call = f"report = check({', '.join(words)})"
    return "\n".join([*imports, "", *lines, "", call, "print(report)"])


def _target(target: Target, given: Sample, name: str) -> Iterator[str]:
    if target.module is None:
        yield from imported(target, name)
        return
    lines = rebuilt(target.module, name)
    yield from lines
    # a module's tensors are those of the sample, which may have been cut down
    for key in [key for key in given.tensors if key not in given.inputs]:
        kind = "parameter" if key in dict(target.module.named_parameters()) else "buffer"
        yield f"{name}.get_{kind}({key!r}).data = {_literal(given, key, data=True)}"


def _arguments(given: Sample) -> list[str]:
    flat = [_Name(word) for word in given.words()]
    return [repr(argument) for argument in pytree.tree_unflatten(flat, given.tree)]


def _literal(sample: Sample, name: str, data: bool = False) -> str:
    tensor = sample.layout(sample.tensors[name])
    kind = f"dtype={tensor.dtype}" + ("" if tensor.device.type == "cpu" else f', device="{tensor.device}"')
    shape, strides = tuple(tensor.shape), tensor.stride()
    if not tensor.numel():
        written = f"torch.empty({shape}, {kind})"
    elif tensor.numel() > _LITERAL:
        written = _drawn(tensor, shape, kind)
    else:
        written = f"torch.tensor({tensor.detach().cpu().resolve_conj().tolist()}, {kind})"
    if tensor.numel() and not tensor.is_contiguous():
        written = f"torch.empty_strided({shape}, {strides}, {kind}).copy_({written})"
    return written + (".requires_grad_()" if name in sample.leaves and not data else "")


def _drawn(tensor: Tensor, shape: tuple[int, ...], kind: str) -> str:
    """Too many to write: as many from the same range, by a seeded generator."""
    seeded = "generator=torch.Generator().manual_seed(0)"
    if tensor.is_complex():
        return f"torch.randn({shape}, {seeded}, dtype={tensor.dtype}).to({kind})"
    low, high = (torch.nan_to_num(x.double()).item() for x in tensor.detach().aminmax())
    if tensor.is_floating_point():
        return f"torch.empty({shape}, dtype={tensor.dtype}).uniform_({low}, {high}, {seeded}).to({kind})"
    return f"torch.randint({int(low)}, {int(high) + 1}, {shape}, {seeded}).to({kind})"
