"""Layers that move no numbers: Identity, Flatten and Unflatten.

Their derivation is that of ``shuffle``, the same rearrangement backwards, which torch's own views already
are. A Function that returned a view would forbid writing into it; so these stay views, and differ from
torch's in name alone.
"""

from __future__ import annotations

import torch

from torch_backprop.spec import LayerSpec, case

VIEW = frozenset({"view"})


class Identity(torch.nn.Identity):
    """Drop-in for :class:`torch.nn.Identity`: returns its input."""


class Flatten(torch.nn.Flatten):
    """Drop-in for :class:`torch.nn.Flatten`: maps ``(*, s_start, ..., s_end, *)`` to ``(*, prod s, *)``."""


class Unflatten(torch.nn.Unflatten):
    """Drop-in for :class:`torch.nn.Unflatten`: maps ``(*, prod s, *)`` to ``(*, s_1, ..., s_n, *)``."""


SPECS = (
    LayerSpec(Identity, torch.nn.Identity, (case((3, 4)), case(())), VIEW),
    LayerSpec(
        Flatten,
        torch.nn.Flatten,
        (case((2, 3, 4)), case((2, 3, 4), start_dim=0), case((3,), start_dim=0)),
        VIEW,
    ),
    LayerSpec(Unflatten, torch.nn.Unflatten, (case((2, 12), dim=1, unflattened_size=(3, 4)),), VIEW),
)
