"""The optimizers on an accelerator: the CPU's trajectory, and states that go from one device to the other."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.accelerator import DEVICE, accelerator, fetched
from tests.sequential_sgd import GROUP_SIZES, descend, make_data, make_model, make_optimizer, snapshot
from tests.test_optim_torch import OPTIONS, walk
from torch_backprop import Backpropagation
from torch_backprop.functional import cross_entropy
from torch_backprop.optim import Descent

Send = Callable[[Any], Any]


def keep(value: Any) -> Any:
    return value


def start(name: str, to: Send) -> tuple[nn.Module, Descent]:
    model = to(make_model())
    return model, OPTIONS[name](model.parameters())


def devices(state: Any) -> set[str]:
    """Where the tensors of a state are; numbers alone may be anywhere."""
    return {x.device.type for x in pytree.tree_leaves(state) if isinstance(x, Tensor) and x.dim()}


@pytest.mark.parametrize("directions", ["there", "back", "stay"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_goes_on_where_its_state_is_loaded(name, directions):
    model, optimizer = start(name, keep)
    walk(optimizer, model, 0, 56)
    with accelerator() as send:
        first, second = {"there": (keep, send), "back": (send, keep), "stay": (send, send)}[directions]
        before, stopped = start(name, first)
        walk(stopped, before, 0, 17, to=first)
        after, resumed = start(name, second)
        for theta, value in zip(after.parameters(), before.parameters(), strict=True):
            theta.data.copy_(value.data)
        resumed.load_state_dict(stopped.state_dict())
        place = "cpu" if second is keep else DEVICE.type
        assert devices(list(resumed.state.values())) <= {place}
        walk(resumed, after, 17, 56, to=second)
        values = [theta.data if second is keep else fetched(theta.data) for theta in after.parameters()]
    found = nn.utils.parameters_to_vector(values)
    torch.testing.assert_close(found, snapshot(model), rtol=0, atol=1e-12)


def test_what_is_left_on_the_cpu_is_found():
    with accelerator() as send, pytest.raises(RuntimeError, match="on the CPU"):
        torch.add(send(torch.ones(3)), torch.ones(3))
    with accelerator() as send, pytest.raises(AssertionError, match=r"\(3,\) is on cpu"):
        fetched(send(torch.ones(3)).to("cpu"))


def test_backpropagation_leaves_nothing_on_the_cpu():
    inputs, targets = make_data()
    cost, gradients = Backpropagation(make_model(), cross_entropy)(inputs, targets)
    with accelerator() as send:
        there = Backpropagation(send(make_model()), cross_entropy)(send(inputs), send(targets))
        seen = pytree.tree_map_only(Tensor, fetched, there)
    torch.testing.assert_close(seen, (cost, gradients))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loaded", ["cpu", "cuda"])
@pytest.mark.parametrize("variant", GROUP_SIZES)
def test_a_state_of_a_gpu_loads_with_weights_only(variant, loaded):
    model = make_model().cuda()
    optimizer = make_optimizer(variant, model.parameters(), momentum=0.9)
    rows = [tensor.cuda() for tensor in make_data()]
    optimizer.step(lambda x, y: cross_entropy(model(x), y), *rows)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin = make_model()
    resumed = make_optimizer(variant, twin.parameters(), momentum=0.9)
    resumed.load_state_dict(torch.load(file, map_location=loaded, weights_only=True))
    assert devices(list(resumed.state.values())) <= {"cpu"}
    descend(resumed, twin, 29)
