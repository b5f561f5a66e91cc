"""The pytest plugin: the fixture ``assert_correct_backward``, and a marker that makes one test a Function.

    @pytest.mark.verify_backward(MyGelu, MySoftmax, inputs=[(4, 8)])
    def test_backward(verify_backward):
        verify_backward()

or, with everything of one's own::

    def test_gelu(assert_correct_backward):
        assert_correct_backward(MyGelu, torch.randn(4, 8), reference=torch.nn.functional.gelu)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

_MARK = (
    "verify_backward(*candidates, inputs, **options): a test for each candidate; inputs are shapes, tensors "
    "or other arguments; options are those of torch_backprop.verify.check"
)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", _MARK)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each candidate of the marker."""
    mark = metafunc.definition.get_closest_marker("verify_backward")
    if mark is None:
        return
    if "verify_backward" not in metafunc.fixturenames:
        name = metafunc.definition.name
        raise pytest.UsageError(f"{name}: the marker verify_backward needs the argument verify_backward")
    if not mark.args or "inputs" not in mark.kwargs:
        raise pytest.UsageError("verify_backward: pass candidates, and inputs=[...] with their shapes")
    names = [_name(candidate) for candidate in mark.args]
    jobs = [(candidate, mark.kwargs) for candidate in mark.args]
    metafunc.parametrize("verify_backward", jobs, ids=names, indirect=True)


@pytest.fixture
def assert_correct_backward() -> Callable[..., None]:
    """As :func:`torch_backprop.verify.assert_correct`."""
    from . import assert_correct

    return assert_correct


@pytest.fixture
def verify_backward(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Verifies the candidate of this test; raises AssertionError with the report."""
    from . import assert_correct

    if not hasattr(request, "param"):
        raise pytest.UsageError("verify_backward: mark the test with pytest.mark.verify_backward(...)")
    candidate, options = request.param
    inputs = [_drawn(item) for item in options["inputs"]]
    rest = {name: value for name, value in options.items() if name != "inputs"}
    return partial(assert_correct, candidate, *inputs, **rest)


def _drawn(item: Any) -> Any:
    import torch

    if isinstance(item, Sequence) and not isinstance(item, str):
        return torch.randn(tuple(item), generator=torch.Generator().manual_seed(0))
    return item


def _name(candidate: Any) -> str:
    from .target import name_of

    return candidate.__name__ if isinstance(candidate, type) else name_of(candidate)
