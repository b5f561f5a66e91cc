"""What outlives the graph, and what is kept outside the reach of autograd."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from ..outcome import forward, pull_back
from ..probe import probe
from ..sample import describe
from ..spy import address, nodes, tensors_on
from ..target import Target
from ..trial import Evidence, Trial


@probe()
def on_ctx(trial: Trial) -> Iterator[Evidence]:
    """A tensor on ctx is not freed by backward, not seen by hooks, not followed by a second gradient."""
    try:
        outputs, leaves = trial.graph()
    except Exception:
        return
    ends = {address(x) for x in (*outputs, *leaves.values())}
    for node in nodes(outputs):
        for name, tensors in tensors_on(node).items():
            for tensor in tensors:
                if address(tensor) not in ends:
                    words = f"ctx.{name} keeps a tensor: use ctx.save_for_backward"
                    yield Evidence("tensor-on-ctx", describe(tensor), "save_for_backward", words)
                    return


@probe()
def leaks(trial: Trial) -> Iterator[Evidence]:
    """A graph dies with its output, without the help of the garbage collector."""
    if trial.seen().error is not None:
        return
    for name, gradient in trial.seen().gradients.items():
        if gradient is not None and gradient.requires_grad:
            words = f"the gradient of {name} holds the graph of an autograd.grad inside backward"
            yield Evidence("leak", "requires grad", "does not", words)
    for after in (False, True):
        seen = _survivors(trial, trial.candidate, after)
        truth = _survivors(trial, trial.truth_of.target, after) if seen else set()
        for what in sorted(seen - truth):
            when = "after backward" if after else "without backward"
            words = f"{what} outlives its last reference {when}: it is on ctx, in a cache, or in a cycle"
            yield Evidence("leak", "alive", "freed", words)


def _survivors(trial: Trial, target: Target, after: bool) -> set[str]:
    outputs, leaves, _ = forward(target, trial.sample)
    if after:
        pull_back(outputs, leaves, trial.truth().live)
    watched = {f"output {i}": weakref.ref(y) for i, y in enumerate(outputs)}
    watched |= {name: weakref.ref(x) for name, x in leaves.items()}
    del outputs, leaves
    return {name for name, reference in watched.items() if reference() is not None}
