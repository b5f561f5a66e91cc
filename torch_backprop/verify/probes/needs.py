"""Which inputs need a gradient: every subset must work, and cost no more than it needs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

from ..diagnosis import excerpt
from ..probe import probe
from ..trial import Evidence, Trial

_FEW, _MOST = 4, 6
"""Leaves of which every subset is tried by a quick check, fourteen, and by a default one, sixty-two."""
_NAMES = 3

Subset = tuple[str, ...]


@probe(sound=True)
def subsets(trial: Trial) -> Iterator[Evidence]:
    """Every subset of a few leaves; of more, such that of every two each is frozen once without the other."""
    leaves = trial.sample.leaves
    if len(leaves) > _MOST:
        trial.note(
            f"of the {len(leaves)} tensors that may be frozen not every subset was, but every two apart"
        )
    yield from _frozen(trial, _subsets(leaves))


@probe(sound=True, quick=False)
def more_subsets(trial: Trial) -> Iterator[Evidence]:
    """Every subset of more leaves; of many, each leaf alone, and all but one."""
    yield from _frozen(trial, _more(trial.sample.leaves))


@probe()
def wasted(trial: Trial) -> Iterator[Evidence]:
    """A gradient that nobody needs is not computed."""
    leaves = trial.sample.leaves
    for needs in [leaves, *_subsets(leaves)]:
        for i in (i for each in trial.watched(needs)[1] for i in each.unneeded()):
            alone = f"gradient {i} is computed where only {_listed(needs)} needs one"
            yield Evidence("wasted-work", "a tensor", "None", f"{alone}: ask ctx.needs_input_grad")
            return


def _frozen(trial: Trial, each: list[Subset]) -> Iterator[Evidence]:
    for needs in each:
        seen, _ = trial.watched(needs)
        frozen = _listed(tuple(name for name in trial.sample.leaves if name not in needs))
        if seen.error is not None:
            if trial.truth(needs=needs).error is None:
                yield Evidence("frozen-input", seen.words, "the reference returns", f"with {frozen} frozen")
                return
            continue
        for name, gradient in seen.gradients.items():
            whole = trial.seen().gradients.get(name)
            if not trial.agree(gradient, whole) and trial.truth(needs=needs).error is None:
                words = f"gradient of {name} with {frozen} frozen"
                yield Evidence("frozen-input", excerpt(gradient), excerpt(whole), words)


def _subsets(leaves: Subset) -> list[Subset]:
    """Every proper subset of a few; of more, no more than it takes to part every two.

    Each leaf is needed in half of the subsets, no two in the same half: of every two, each is needed once
    where the other is frozen. Sperner (1928), Mathematische Zeitschrift 27, 544-548.
    """
    count = len(leaves)
    if count <= _FEW:
        return _proper(leaves)
    runs = next(n for n in range(count) if comb(n, n // 2) >= count)
    halves = list(zip(leaves, combinations(range(runs), runs // 2), strict=False))
    return [tuple(leaf for leaf, half in halves if run in half) for run in range(runs)]


def _more(leaves: Subset) -> list[Subset]:
    """Those that `_subsets` leaves out, or the smallest and the largest of them."""
    if len(leaves) > _MOST:
        return [(name,) for name in leaves] + [tuple(x for x in leaves if x != name) for name in leaves]
    known = _subsets(leaves)
    return [subset for subset in _proper(leaves) if subset not in known]


def _proper(leaves: Subset) -> list[Subset]:
    return [subset for size in range(1, len(leaves)) for subset in combinations(leaves, size)]


def _listed(names: Subset) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
