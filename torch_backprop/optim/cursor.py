"""Where a step stands in its loader batch, on this process and in the order of all processes.

The global order of a loader batch that is spread over P processes is round-robin: row 0 of process 0, row 0
of process 1, ..., row 1 of process 0, ...; a process that has run out of rows is passed over.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from operator import is_
from typing import Any

from torch_backprop.optim.rows import as_weights, count_rows, cut


def positions(counts: list[int], rank: int) -> list[int]:
    """Return the places of the rows of process `rank` in the global order, by each one's number of rows.

    Example:
        >>> positions([3, 1, 2], 0), positions([3, 1, 2], 1), positions([3, 1, 2], 2)
        ([0, 3, 5], [1], [2, 4])
    """
    before, after = counts[:rank], counts[rank + 1 :]
    return [
        sum(min(count, row + 1) for count in before) + row + sum(min(count, row) for count in after)
        for row in range(counts[rank])
    ]


@dataclass
class Cursor:
    """A window on a loader batch: its rows go to the open group.

    Attributes:
        start, stop: own rows `start` to below `stop` are in the window.
        first, last: the same in the global order, which is the own one where there is a single process.
        count: the number of own rows, None until they are admitted; `total` is that of all processes.
        weights: the weights of the own rows, if there are any.
        rows: the tensors admitted last.
        taken: whether the rows of the window have been handed out.
    """

    start: int = 0
    stop: int = 0
    first: int = 0
    last: int = 0
    count: int | None = None
    total: int = 0
    places: list[int] | None = None
    weights: list[float] | None = None
    rows: tuple[Any, ...] = ()
    taken: bool = False

    def admit(self, rows: tuple[Any, ...], weight: Any) -> None:
        """Note how many rows the loader batch has, and their weights.

        Raises:
            ValueError: if an earlier call in the same step had another number of rows.
        """
        # The same tensors again, once for each group, need no second look.
        known = self.count is not None and len(rows) == len(self.rows) and all(map(is_, rows, self.rows))
        if known and (weight is None or self.weights is not None):
            return
        count = count_rows(rows)
        if self.count not in (None, count):
            raise ValueError(f"take() got {count} rows, and {self.count} before in the same step.")
        self.rows = rows
        self.count, self.total = count, max(count, self.total)
        # A closure may take inputs and targets apart, the weights with either of them, once for each group.
        if weight is not None and self.weights is None:
            self.weights = as_weights(weight, count)

    def share(self, counts: list[int], rank: int) -> None:
        """Take a place in the global order of processes that have `counts` rows."""
        self.total, self.places = sum(counts), positions(counts, rank)

    def open(self, room: float) -> None:
        """Make the window as large as the open group has room for."""
        self.last = int(min(self.total, self.first + room))
        # Own places rise, so those below the end of the window are a prefix.
        self.stop = self.last if self.places is None else bisect_left(self.places, self.last)
        self.taken = False

    def advance(self) -> None:
        """Move on to the rows after the window."""
        self.start, self.first = self.stop, self.last

    def part(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the own rows in the window."""
        self.taken = True
        # Views of whole batches would cost time for nothing, at each step of a loader that cuts the groups.
        if self.own == self.count:
            return rows
        return tuple(cut(value, self.start, self.stop) for value in rows)

    @property
    def own(self) -> int:
        """The number of own rows in the window."""
        return self.stop - self.start

    @property
    def examples(self) -> int:
        """The number of rows in the window, on all processes."""
        return self.last - self.first

    @property
    def weight(self) -> float:
        """The sum of the weights of the own rows in the window; without weights their number."""
        return self.own if self.weights is None else math.fsum(self.weights[self.start : self.stop])

    @property
    def done(self) -> bool:
        """Whether every row of the loader batch has been used."""
        return self.count is not None and self.first >= self.total
