"""torch's settings: read, and put back after a candidate that changes them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SEED = 11


def seed(number: int = SEED) -> None:
    """As ``torch.manual_seed``, which writes down its stack, at length, for every device not in use."""
    torch.default_generator.manual_seed(number)
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            device.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


def generators(device: torch.device) -> list[Tensor]:
    """The states of what random numbers are drawn from: the CPU's generator, and the device's own."""
    states = [torch.get_rng_state()]
    module: Any = getattr(torch, device.type, None)
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    elif device.type != "cpu" and hasattr(module, "get_rng_state"):
        states.append(module.get_rng_state(device))
    return states


def _autocast() -> dict[str, bool]:
    """Whether each kind of device that this torch computes on casts."""
    other = torch.accelerator.current_accelerator()
    return {kind: torch.is_autocast_enabled(kind) for kind in ("cpu", *([other.type] if other else []))}


def settings() -> dict[str, Any]:
    """The settings that a call may not leave changed."""
    return {
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "autocast": _autocast(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
    }


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Settings, random numbers and warnings are the same afterwards."""
    before = settings()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            restore(before)


def restore(before: dict[str, Any]) -> None:
    """Puts back what :func:`settings` read, if anything changed: torch's setters import a lot."""
    if settings() == before:
        return
    torch.set_grad_enabled(before["grad mode"])
    torch.set_default_dtype(before["default dtype"])
    torch.set_num_threads(before["threads"])
    for kind, casts in before["autocast"].items():
        torch.set_autocast_enabled(kind, casts)
    torch.use_deterministic_algorithms(before["deterministic algorithms"])
    torch.autograd.set_detect_anomaly(before["anomaly mode"])
