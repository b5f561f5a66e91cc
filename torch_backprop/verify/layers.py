"""The layers of this package as targets, from what they declare about themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from torch_backprop.nn import SPECS
from torch_backprop.spec import Case, LayerSpec

from .check import check
from .report import Report


def every_case(
    only: Sequence[str], device: torch.device, settings: Mapping[str, Any], refuse: type[Exception]
) -> Iterator[tuple[str, Callable[[], Report]]]:
    """A name and a verification for every case of every layer.

    Args:
        only: names of layers; none: all.
        device: where parameters and inputs are.
        settings: handed on to :func:`torch_backprop.verify.check`.
        refuse: what is raised for a name that is no layer's.
    """
    known = {spec.layer.__name__ for spec in SPECS}
    for name in only:
        if name not in known:
            raise refuse(f"--layer: {name!r} is no layer of torch_backprop.nn: {', '.join(sorted(known))}")
    for spec in SPECS:
        for case in spec.cases if not only or spec.layer.__name__ in only else ():
            first = case is spec.cases[0]
            yield f"{spec.layer.__name__} {case}", _verification(spec, case, device, settings, first)


def _verification(
    spec: LayerSpec, case: Case, device: torch.device, settings: Mapping[str, Any], compile: bool
) -> Callable[[], Report]:
    def verify() -> Report:
        with warnings.catch_warnings():
            # what torch deprecates is verified as the rest is
            warnings.simplefilter("ignore", FutureWarning)
            ours, builtin = (
                case.called(case.build(module, torch.float64)).to(device)
                for module in (spec.layer, spec.reference)
            )
        inputs = [x.to(device) for x in case.draw(torch.float64)]
        # compiled once a layer: it takes seconds, and its cases differ in options alone
        chosen: dict[str, Any] = {**settings, "compile": bool(settings["compile"]) and compile}
        report = check(ours, *inputs, reference=builtin, tiny="inverted" not in spec.properties, **chosen)
        return replace(report, candidate=f"{spec.layer.__name__} {case}")

    return verify
