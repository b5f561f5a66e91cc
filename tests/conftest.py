"""Settings that every test needs."""

import gc
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

# two workers share two cores: a thread pool each would only make them wait for one another
torch.set_num_threads(1)

# torch.manual_seed writes down the whole stack, at length, for every device that is not in use
for device in (torch.cuda, torch.xpu, torch.mtia):
    vars(device)["traceback"] = SimpleNamespace(format_stack=list)

pytest.register_assert_rewrite("checks")

WARNINGS_OF_TORCH = (
    "ignore:Complex modules are a new feature:UserWarning",
    "ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning",
    # said at each building of a deprecated class, and of ours of that name
    "ignore:`NLLLoss2d` has been deprecated:FutureWarning",
    # what an option of TransformerEncoder, and the mean of KLDivLoss, are said to become
    "ignore:enable_nested_tensor is True:UserWarning",
    "ignore:reduction. 'mean' divides the total loss:UserWarning",
    # Dynamo does so itself when it traces torch.func.grad of a Function
    "ignore:.*Function.> should not be instantiated:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for warning in WARNINGS_OF_TORCH:
        config.addinivalue_line("filterwarnings", warning)


def pytest_collection_finish() -> None:
    from torch._dynamo import guards

    # Dynamo empties the processor's cache after each compilation, to time its guards for a log
    guards.__dict__["profile_guard_manager"] = lambda *_: 0.0
    # a compilation makes so many objects that the default has it collect hundreds of times
    gc.set_threshold(10_000)
    # what is there by now, a million objects, stays to the end: nothing to look through again and again
    gc.freeze()


@pytest.fixture
def signals() -> Iterator[None]:
    """What an experiment does with signals is undone."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
