"""Words that several accounts need."""

from collections.abc import Sequence


def series(parts: Sequence[str]) -> str:
    """Join parts as a sentence does.

    >>> series(["batch", "stochastic", "mini-batch"])
    'batch, stochastic and mini-batch'
    """
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def count(number: int, noun: str) -> str:
    """Write a number and its noun.

    >>> count(1, "epoch"), count(40, "epoch")
    ('1 epoch', '40 epochs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cost_of(problem: str) -> str:
    """Say which cost is meant.

    >>> cost_of("quadratic"), cost_of("linear on wine")
    ('the quadratic cost', 'the cost of linear on wine')
    """
    return f"the cost of {problem}" if " on " in problem else f"the {problem} cost"


def heading(text: str) -> str:
    """Begin with a capital letter, and leave the others as they are.

    >>> heading("the cost of PCA")
    'The cost of PCA'
    """
    return text[:1].upper() + text[1:]
