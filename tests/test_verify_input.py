"""Bad input to the verifier: an exception that says which argument, and what to pass."""

from typing import Any

import pytest
import torch
from torch import nn

from torch_backprop.verify import check

X = torch.ones(4, 3)
BAD: list[tuple[str, Any, tuple[Any, ...], Any, type[Exception], str]] = [
    ("not callable", 3, (X,), None, TypeError, "candidate: 3 cannot be called; pass a function"),
    ("a class", nn.ReLU, (X,), None, TypeError, r"candidate: .* pass a module, ReLU\(...\)"),
    ("reference", torch.tanh, (X,), "tanh", TypeError, "reference: 'tanh' cannot be called"),
    ("refused", torch.mm, (X, X), None, ValueError, "inputs: the candidate mm refuses .* RuntimeError"),
    ("arity", torch.tanh, (X,), torch.mul, ValueError, "inputs: the reference mul refuses"),
    ("structure", torch.tanh, (X,), torch.frexp, ValueError, "reference: frexp returns 2 tensors"),
    ("no leaf", torch.tanh, (torch.ones(3, dtype=torch.int64),), None, ValueError, "inputs: none can have"),
    ("no tensor", torch.tanh, (1.0,), None, ValueError, "inputs: none can have a gradient"),
    (
        "parameters",
        nn.Linear(3, 2),
        (X,),
        nn.Linear(3, 4),
        ValueError,
        "reference: Linear has the parameters",
    ),
]


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize(
    ("candidate", "inputs", "reference", "kind", "words"),
    [row[1:] for row in BAD],
    ids=[row[0] for row in BAD],
)
def test_bad_input(
    candidate: Any, inputs: Any, reference: Any, kind: type[Exception], words: str, isolate: bool
):
    with pytest.raises(kind, match=words):
        check(candidate, *inputs, reference=reference, quick=True, isolate=isolate)
