"""A run saved in the middle of a group continues to the last bit; states from elsewhere are refused."""

import copy
import io
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.sequential_sgd import GROUP_SIZES, LR, SETTINGS, batches, make_model, make_optimizer, snapshot
from torch_backprop.optim import Descent, MiniBatchGD

each_variant = pytest.mark.parametrize("variant", GROUP_SIZES)


def saved_and_loaded(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def numbers(optimizer: Descent) -> dict:
    """Return a copy of the state without its words, for assert_close."""
    state = copy.deepcopy(optimizer.state_dict())
    words = [key for key, value in state["descent"].items() if isinstance(value, str)]
    for key in words:
        del state["descent"][key]
    return state


def walk(optimizer: Descent, model: nn.Module, first: int, last: int) -> None:
    """Walk through loader batches `first` to below `last` of 5 rows each, several passes long."""
    data = [batch for _ in range(3) for batch in batches(5)]
    for number, (x, y) in enumerate(data[first:last], first + 1):
        optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)
        if number % 14 == 0:
            optimizer.end_epoch()


@pytest.mark.parametrize("stop", [3, 14, 20])
@pytest.mark.parametrize("copied", [False, True])
@each_variant
def test_resumes_in_the_middle_of_a_group_to_the_last_bit(variant, copied, stop):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters(), **SETTINGS["all"])
    walk(optimizer, model, 0, stop)
    if copied:
        resumed_model, resumed = copy.deepcopy((model, optimizer))
    else:
        resumed_model = make_model()
        resumed_model.load_state_dict(saved_and_loaded(model.state_dict()))
        resumed = make_optimizer(variant, resumed_model.parameters(), **SETTINGS["all"])
        resumed.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    walk(optimizer, model, stop, 42)
    walk(resumed, resumed_model, stop, 42)
    assert torch.equal(snapshot(model), snapshot(resumed_model))
    assert (resumed.updates, resumed.examples_seen) == (optimizer.updates, optimizer.examples_seen)


def test_loading_keeps_the_two_optimizers_apart():
    model, twin = make_model(), make_model()
    optimizer = make_optimizer("minibatch", model.parameters(), momentum=0.9)
    walk(optimizer, model, 0, 3)
    other = make_optimizer("minibatch", twin.parameters(), momentum=0.9)
    other.load_state_dict(optimizer.state_dict())
    before = numbers(optimizer)
    walk(other, twin, 3, 14)
    torch.testing.assert_close(numbers(optimizer), before, rtol=0, atol=0, equal_nan=True)


def test_pickled_with_its_model():
    model = make_model()
    optimizer = make_optimizer("minibatch", model.parameters(), momentum=0.9, last="carry")
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.register_update_hook(lambda _: schedule.step())
    walk(optimizer, model, 0, 2)
    clone_of_model, clone = pickle.loads(pickle.dumps((model, optimizer)))
    assert clone.last == "carry"
    assert clone.state_dict().keys() == optimizer.state_dict().keys()
    walk(clone, clone_of_model, 2, 4)
    assert clone.updates == 2


def test_a_scheduled_lr_is_resumed():
    model = make_model()
    optimizer = make_optimizer("stochastic", model.parameters(), lr=lambda update: 0.01 / (1 + update))
    walk(optimizer, model, 0, 2)
    resumed = make_optimizer("stochastic", model.parameters(), lr=lambda update: 0.01 / (1 + update))
    resumed.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    walk(resumed, model, 2, 3)
    assert resumed.param_groups[0]["lr"] == 0.01 / 15


@pytest.mark.parametrize("lr", [np.float64(0.01), lambda update: 0.01 * np.cos(update)])
def test_numbers_of_numpy_are_saved_as_pythons(lr):
    model = make_model()
    settings = {"momentum": np.float32(0.5), "weight_decay": Fraction(1, 8), "max_norm": np.float32(1)}
    optimizer = make_optimizer("minibatch", model.parameters(), lr=lr, **settings)
    walk(optimizer, model, 0, 3)
    (group,) = saved_and_loaded(optimizer.state_dict())["param_groups"]
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.125)


def refuse(state: dict, optimizer: Descent, match: str) -> None:
    before = numbers(optimizer)
    with pytest.raises(ValueError, match=match):
        optimizer.load_state_dict(state)
    torch.testing.assert_close(numbers(optimizer), before, rtol=0, atol=0, equal_nan=True)


def test_state_from_elsewhere_is_refused_with_the_key_named():
    model = make_model()
    optimizer = make_optimizer("minibatch", model.parameters(), momentum=0.9)
    walk(optimizer, model, 0, 3)
    state = optimizer.state_dict()
    wider = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    refuse(torch.optim.SGD(model.parameters()).state_dict(), optimizer, "no key 'descent'")
    refuse(state, make_optimizer("batch", model.parameters()), r"\['variant'\] is 'MiniBatchGD'")
    refuse(state, MiniBatchGD(model.parameters(), LR, 9), r"\['batch_size'\] is 8")
    refuse(state, MiniBatchGD(wider.parameters(), LR, 8), r"\['state'\]\[0\]\['momentum_buffer'\]")
    refuse(state, MiniBatchGD(model[0].parameters(), LR, 8), r"\['param_groups'\]\[0\]\['params'\] has 4")
    refuse({**state, "state": {}}, MiniBatchGD(wider.parameters(), LR, 8), r"\['sums'\]\[0\]")
    refuse(state, MiniBatchGD([{"params": [p]} for p in model.parameters()], LR, 8), "has 1 groups")
