"""MNIST and CIFAR-10, which torchvision fetches."""

import os
from pathlib import Path

import numpy as np

from experiments.data.source import Source, fetched

CLASSES = {"mnist": "MNIST", "cifar10": "CIFAR10"}


def images(name: str) -> Source:
    """Fetch the training part of MNIST or CIFAR-10, or take it from the cache, as (N, C, H, W) pixels."""
    return fetched(name, "torchvision", lambda: _images(name))


def _images(name: str) -> Source:
    from torchvision import datasets  # pyright: ignore[reportMissingImports]

    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "torch_backprop"
    found = getattr(datasets, CLASSES[name])(root, train=True, download=True)
    pixels = np.asarray(found.data)
    # One has a channel of its own at the end, the other none.
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return Source(pixels.astype(np.float64), np.asarray(found.targets), 10, "classes")
