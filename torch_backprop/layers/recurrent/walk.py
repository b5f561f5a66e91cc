"""Time: sequences of different lengths side by side, walked in one direction or the other.

It serves the derivation in ``direction``.

The rows ``(N, *)`` of a packed batch hold step after step, at each step the sequences that are still alive,
the longest first. A walk against time meets more and more of them, a walk with time fewer and fewer: states
join with their initial value, and leave with their last. Backpropagation through a walk is the opposite walk,
on which the gradient of a last state joins and that of an initial state leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

States = tuple[Tensor, ...]
Step = Callable[..., States]


@dataclass(frozen=True)
class Walk:
    """One direction through time.

    Attributes:
        sizes: how many sequences are alive at each step, never increasing.
        reverse: whether the last step comes first.
    """

    sizes: tuple[int, ...]
    reverse: bool

    def there(self, initial: States, step: Step) -> States:
        """Maps initial states ``(B, *)`` to last ones; ``step(t, *states)`` returns the next states."""
        return self._walk(self._order(self.reverse), initial, step)

    def back(self, last: States, step: Step) -> States:
        """Maps gradients of last states to those of initial ones, in the opposite order."""
        return self._walk(self._order(not self.reverse), last, step)

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows of each step."""
        return rows.split(self.sizes)

    def before(self, initial: Tensor, rows: Tensor) -> Tensor:
        """The state before each step, of states ``rows`` ``(N, *)`` after it."""
        seen: list[Tensor] = [rows] * len(self.sizes)
        after = self.split(rows)

        def step(t: int, state: Tensor) -> States:
            seen[t] = state
            return (after[t],)

        # the same walk: a sequence that joins late starts from its own initial state
        self.there((initial,), step)
        return torch.cat(seen)

    def _order(self, reverse: bool) -> list[int]:
        steps = range(len(self.sizes))
        return list(reversed(steps) if reverse else steps)

    def _walk(self, order: list[int], initial: States, step: Step) -> States:
        # those that join later start from their own rows of the initial states
        states = tuple(state[: self.sizes[order[0]]] for state in initial)
        left: list[States] = []
        for t in order:
            size, alive = self.sizes[t], states[0].shape[0]
            if size < alive:
                left.append(tuple(state[size:] for state in states))
                states = tuple(state[:size] for state in states)
            elif size > alive:
                joining = zip(states, initial, strict=True)
                states = tuple(torch.cat((state, first[alive:size])) for state, first in joining)
            states = step(t, *states)
        return (
            tuple(torch.cat(parts) for parts in zip(states, *reversed(left), strict=True)) if left else states
        )
