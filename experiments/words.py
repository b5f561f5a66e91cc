"""Words that several accounts need."""

from collections.abc import Sequence


def series(parts: Sequence[str]) -> str:
    """Join parts as a sentence does.

    >>> series(["batch", "stochastic", "mini-batch"])
    'batch, stochastic and mini-batch'
    """
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last
