"""Where and with what a run is made; no name of a host, a user or a folder."""

import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "lightning", "torchmetrics", "scikit-learn", "numpy", "matplotlib")


def environment(seed: int, device: str) -> dict[str, Any]:
    """Describe this process and the machine that it runs on."""
    return {
        "started": datetime.now().isoformat(timespec="seconds"),
        "seed": seed,
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "git": _git(),
    }


def device(accelerator: str) -> str:
    """Say which device an accelerator stands for on this machine.

    >>> device("cpu")
    'cpu'
    """
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return automatic if accelerator == "auto" else accelerator


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's banners and advice off the terminal."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git() -> str | None:
    """Name the commit, and whether files differ from it; None outside a repository."""
    # --exclude: a tag's name says less than the commit, and may not be fetched.
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
