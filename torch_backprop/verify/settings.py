"""torch's settings: read, and put back after a candidate that changes them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch

SEED = 11


def seed(number: int = SEED) -> None:
    """As ``torch.manual_seed``, which writes down its stack, at length, for every device not in use."""
    torch.default_generator.manual_seed(number)
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            device.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


def settings() -> dict[str, object]:
    """The settings that a call may not leave changed."""
    return {
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
    }


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Settings, random numbers and warnings are the same afterwards."""
    before = settings()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            restore(before)


def restore(before: dict[str, object]) -> None:
    """Puts back what :func:`settings` read, if anything changed: torch's setters import a lot."""
    if settings() == before:
        return
    torch.set_grad_enabled(bool(before["grad mode"]))
    torch.set_default_dtype(before["default dtype"])  # pyright: ignore[reportArgumentType]
    torch.set_num_threads(int(str(before["threads"])))
    torch.set_autocast_enabled("cpu", bool(before["autocast"]))
    torch.use_deterministic_algorithms(bool(before["deterministic algorithms"]))
    torch.autograd.set_detect_anomaly(bool(before["anomaly mode"]))
