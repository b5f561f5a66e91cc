"""The graph that autograd records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def below(roots: Iterable[Any]) -> Iterator[Any]:
    """Each node that the roots lead to, and they themselves; a root may be None, as of a constant."""
    seen: set[Any] = set()
    ahead = list(roots)
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
            yield node
