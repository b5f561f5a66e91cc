"""What goes by the place: a backward pass that forgets a mask, or a border."""

import torch
from torch import Tensor

from .plant import Plant, rule


def smooth(x: Tensor) -> Tensor:
    """Each place and half of the one before it, of which the first has none."""
    return x + 0.5 * torch.nn.functional.pad(x[..., :-1], (1, 0))


def pull_smooth(g: Tensor, last: float) -> Tensor:
    after = torch.roll(g, -1, -1)
    return g + 0.5 * torch.cat((after[..., :-1], last * after[..., -1:]), -1)


def later(x: Tensor) -> Tensor:
    """Which places come after one's own."""
    return torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).triu(1)


def causal(x: Tensor) -> Tensor:
    return x.masked_fill(later(x), -torch.inf).softmax(-1)


def pull_softmax(g: Tensor, y: Tensor) -> Tensor:
    return y * (g - (g * y).sum(-1, keepdim=True))


PLANTS = (
    Plant(
        "a sum of neighbours that goes round the border",
        "wrong-gradient",
        rule(smooth, lambda g, x: pull_smooth(g, 1)),
        rule(smooth, lambda g, x: pull_smooth(g, 0)),
        ((3, 6),),
    ),
    Plant(
        "causal softmax whose mask the backward pass forgets",
        "wrong-gradient",
        rule(causal, lambda g, x: pull_softmax(g, x.softmax(-1))),
        rule(causal, lambda g, x: pull_softmax(g, causal(x)).masked_fill(later(x), 0)),
        ((2, 4, 4),),
    ),
)
