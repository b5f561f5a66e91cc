"""Which inputs need a gradient: every subset must work, and cost no more than it needs."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnosis import excerpt
from ..outcome import forward, pull_back
from ..probe import probe
from ..spy import watching
from ..trial import Evidence, Trial


@probe(sound=True)
def subsets(trial: Trial) -> Iterator[Evidence]:
    """Each leaf alone, and all but one."""
    for needs in _subsets(trial):
        seen, truth = trial.seen(needs=needs), trial.truth(needs=needs)
        frozen = ", ".join(sorted(set(trial.sample.leaves) - set(needs)))
        if truth.error is not None:
            continue
        if seen.error is not None:
            yield Evidence("frozen-input", seen.words, "the reference returns", f"with {frozen} frozen")
            return
        for name, gradient in seen.gradients.items():
            whole = trial.seen().gradients.get(name)
            if not trial.agree(gradient, whole):
                words = f"gradient of {name} with {frozen} frozen"
                yield Evidence("frozen-input", excerpt(gradient), excerpt(whole), words)


@probe()
def wasted(trial: Trial) -> Iterator[Evidence]:
    """A gradient that nobody needs is not computed."""
    for needs in [(name,) for name in trial.sample.leaves]:
        with watching() as passes:
            try:
                outputs, leaves, _ = forward(trial.candidate, trial.sample, needs)
                pull_back(outputs, leaves, trial.truth(needs=needs).live)
            except Exception:
                continue
        for seen in passes:
            for i in seen.unneeded():
                words = f"gradient {i} is computed where only {needs[0]} needs one: ask ctx.needs_input_grad"
                yield Evidence("wasted-work", "a tensor", "None", words)
                return


def _subsets(trial: Trial) -> list[tuple[str, ...]]:
    leaves = trial.sample.leaves
    if len(leaves) < 2:
        return []
    alone = [(name,) for name in leaves]
    return alone + [tuple(n for n in leaves if n != name) for name in leaves if len(leaves) > 2]
