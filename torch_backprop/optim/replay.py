"""Rows that were handed out once, handed out again: for the cost of the same rows at other parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Slice:
    """What was handed out for one evaluation, call by call, and what its cost counts in the sum of costs."""

    handed: list[tuple[Any, ...]]
    share: float


class Replay:
    """Stands in for a `Walk` while a closure runs again."""

    def __init__(self, piece: Slice) -> None:
        self._calls: Iterator[tuple[Any, ...]] = iter(piece.handed)

    def take(self, rows: tuple[Any, ...], weight: Any) -> tuple[Any, ...]:
        """Return what the same call got the first time, whatever it asks for."""
        return self.hand_out(rows)

    def hand_out(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what the same call got the first time.

        Raises:
            RuntimeError: if there was no such call.
        """
        for part in self._calls:
            return part
        raise RuntimeError("The closure takes more rows at a trial point than before: let it take the same.")
