"""The networks, of layers whose backward passes are derived by hand."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop import nn


def linear(shape: tuple[int, ...], outputs: int, **_: Any) -> torch.nn.Module:
    """Scores or values that are linear in the inputs."""
    return torch.nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))


def slopes(shape: tuple[int, ...], outputs: int, **_: Any) -> torch.nn.Module:
    """Scores or values that are linear in the inputs, and 0 where these are: a slope along each."""
    return torch.nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs, bias=False))


def perceptron(shape: tuple[int, ...], outputs: int, width: int, depth: int, **_: Any) -> torch.nn.Module:
    """Layers of `width` units under the hyperbolic tangent."""
    widths = [math.prod(shape), *[width] * depth]
    hidden = [part for i in range(depth) for part in (nn.Linear(widths[i], widths[i + 1]), nn.Tanh())]
    return torch.nn.Sequential(nn.Flatten(), *hidden, nn.Linear(widths[-1], outputs))


def convolution(shape: tuple[int, ...], outputs: int, width: int, depth: int, **_: Any) -> torch.nn.Module:
    """Convolutions of 3 by 3, each under ReLU, and the largest of 2 by 2 while there are as many pixels."""
    channels, *size = shape
    layers: list[torch.nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(channels if i == 0 else width, width, 3, padding=1), nn.ReLU()]
        # Digits have but 8 by 8 pixels.
        if min(size) >= 4:
            layers.append(nn.MaxPool2d(2))
            size = [side // 2 for side in size]
    return torch.nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * math.prod(size), outputs))


class Recurrent(torch.nn.Module):
    """Gated recurrent units over the characters: (N, T) to scores (N, T, outputs)."""

    def __init__(self, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(outputs, width)
        self.recurrent = nn.GRU(width, width, depth, batch_first=True)
        self.output = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Foretell each next character."""
        return self.output(self.recurrent(self.embedding(x))[0])


class Transformer(torch.nn.Module):
    """Blocks of attention to the characters before: (N, T) to scores (N, T, outputs)."""

    mask: Tensor

    def __init__(self, context: int, outputs: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(outputs, width), nn.Embedding(context, width)
        options: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        block: Any = nn.TransformerEncoderLayer
        self.blocks = torch.nn.ModuleList(block(width, heads, 4 * width, **options) for _ in range(depth))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, outputs)
        # It follows from the context, so that no checkpoint needs it.
        self.register_buffer(
            "mask", torch.nn.Transformer.generate_square_subsequent_mask(context), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Foretell each next character."""
        # A text may be shorter than the context it was trained for.
        length = x.shape[1]
        y = self.embedding(x) + self.place.weight[:length]
        for block in self.blocks:
            y = block(y, self.mask[:length, :length], is_causal=True)
        return self.output(self.norm(y))


NETWORKS: dict[str, Callable[..., torch.nn.Module]] = {
    "linear": linear,
    "slopes": slopes,
    "perceptron": perceptron,
    "convolution": convolution,
    "recurrent": lambda shape, outputs, width, depth, heads: Recurrent(outputs, width, depth),
    "transformer": lambda shape, outputs, width, depth, heads: Transformer(
        shape[0], outputs, width, depth, heads
    ),
}


def describe(network: torch.nn.Module, name: str) -> tuple[str, int]:
    """Return a network's shape in words, and its number of parameters."""
    count = sum(values.numel() for values in network.parameters())
    # The others are not told by widths alone.
    if name not in ("linear", "slopes", "perceptron"):
        return name, count
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
    return f"{name} {'–'.join(map(str, widths))}", count
