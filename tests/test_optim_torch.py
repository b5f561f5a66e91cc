"""What PyTorch's own tests ask of an optimizer: groups, hooks, copies, kinds of gradients, empty lists."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing._internal.common_optimizers import get_error_inputs_for_all_optims

from tests.sequential_sgd import GROUP_SIZES, LR, descend, make_data, make_model, make_optimizer, snapshot
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD

each_variant = pytest.mark.parametrize("variant", GROUP_SIZES)


@each_variant
@pytest.mark.parametrize(
    "case",
    get_error_inputs_for_all_optims("cpu", torch.float32),
    ids=lambda case: case.optimizer_error_input.desc,
)
@pytest.mark.filterwarnings("default:.*duplicate parameters:UserWarning")
def test_the_error_inputs_of_torch(variant, case):
    given = case.optimizer_error_input
    params = [nn.Parameter(torch.randn(1, 1))] if given.params is None else given.params
    settings: dict[str, Any] = {"lr": LR, **given.kwargs}
    if issubclass(case.error_type, Warning):
        with pytest.warns(case.error_type, match=case.error_regex):
            make_optimizer(variant, params, **settings)
    else:
        with pytest.raises(case.error_type, match=case.error_regex):
            make_optimizer(variant, params, **settings)


@each_variant
def test_empty_lists(variant):
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        make_optimizer(variant, [])
    # torch allows a group without parameters.
    theta = torch.ones(1, requires_grad=True)
    optimizer = make_optimizer(variant, [{"params": []}, {"params": [theta]}])
    for rows in optimizer.epoch([torch.ones(2, 1)]):
        optimizer.step(lambda x: (theta * x).mean(), rows)
    assert theta.item() < 1


@each_variant
@pytest.mark.parametrize("name", ["differentiable", "foreach", "fused", "capturable"])
def test_other_implementations_are_refused(variant, name):
    theta = torch.ones(1, requires_grad=True)
    with pytest.raises(TypeError, match=name):
        make_optimizer(variant, [theta], **{name: True})
    with pytest.raises(ValueError, match=f"^{name}=True"):
        make_optimizer(variant, [{"params": [theta], name: True}])


@each_variant
def test_parameter_groups_have_defaults_and_names(variant):
    model = make_model()
    optimizer = make_optimizer(variant, model[0].named_parameters(), momentum=0.5)
    optimizer.add_param_group({"params": list(model[2].named_parameters()), "lr": 0.3})
    first, second = optimizer.param_groups
    assert first["param_names"] == ["weight", "bias"]
    assert (first["lr"], second["lr"]) == (LR, 0.3)
    assert first["momentum"] == second["momentum"] == 0.5
    assert "momentum: 0.5" in repr(optimizer)
    before = snapshot(model)
    descend(optimizer, model, 29, epochs=1)
    assert (snapshot(model) != before).all()


@each_variant
def test_a_group_added_in_the_middle_of_a_group_of_examples(variant):
    model, (x, y) = make_model(), make_data()
    optimizer = make_optimizer(variant, model[0].parameters(), momentum=0.9)
    cost = nn.CrossEntropyLoss()
    optimizer.step(lambda x, y: cost(model(x), y), x[:13], y[:13])
    optimizer.add_param_group({"params": model[2].parameters()})
    optimizer.step(lambda x, y: cost(model(x), y), x[13:], y[13:])
    optimizer.flush()
    assert optimizer.examples_seen == 67


@each_variant
def test_hooks_of_torch(variant):
    calls: list[str] = []
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters())
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    optimizer.register_state_dict_pre_hook(lambda _: calls.append("state"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: calls.append("load"))
    optimizer.register_load_state_dict_post_hook(lambda _: calls.append("loaded"))
    descend(optimizer, model, 67, epochs=1)
    state = optimizer.state_dict()
    assert state["more"] == 1
    optimizer.load_state_dict(state)
    assert calls == ["pre", "post", "state", "load", "loaded"]


@each_variant
@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(variant, set_to_none):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters())
    model(make_data()[0]).sum().backward()
    optimizer.zero_grad(set_to_none)
    assert all((p.grad is None) if set_to_none else (p.grad == 0).all() for p in model.parameters())


@each_variant
def test_closures_run_under_grad_mode(variant):
    model = make_model()
    optimizer, modes = make_optimizer(variant, model.parameters()), []

    def cost(x):
        modes.append(torch.is_grad_enabled())
        return model(x).mean()

    with torch.no_grad():
        optimizer.step(cost, make_data()[0])
    assert all(modes)
    assert not any(parameter.requires_grad is False for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_gradients_with_a_graph_leave_it_behind():
    model, (x, y) = make_model(), make_data()
    optimizer = MiniBatchGD(model.parameters(), LR, 50)

    def closure():
        cost = nn.functional.cross_entropy(model(optimizer.take(x, y)[0]), optimizer.take(x, y)[1])
        cost.backward(create_graph=True)
        return cost

    optimizer.step(closure)
    sums = copy.deepcopy(optimizer.state_dict())["descent"]["sums"]
    assert sums
    assert not any(total.requires_grad for total in sums.values())


@each_variant
def test_complex_parameters_as_pairs_of_real_ones(variant):
    start = torch.randn(3, dtype=torch.complex128)
    theta, pair = start.clone().requires_grad_(), torch.view_as_real(start).clone().requires_grad_()
    rows = torch.randn(20, 3, dtype=torch.complex128)
    settings = {"momentum": 0.9, "weight_decay": 0.1, "max_norm": 0.7, "nesterov": True}
    one, other = (make_optimizer(variant, [parameter], **settings) for parameter in (theta, pair))
    for batch in one.epoch(rows.split(6)):
        one.step(lambda z: (theta - z).abs().square().mean(), batch)
    for batch in other.epoch(rows.split(6)):
        other.step(lambda z: (torch.view_as_complex(pair) - z).abs().square().mean(), batch)
    torch.testing.assert_close(torch.view_as_real(theta), pair, rtol=0, atol=1e-12)


@each_variant
def test_sparse_gradients_are_refused_and_nothing_changes(variant):
    embedding = nn.Embedding(4, 2, sparse=True)
    before = embedding.weight.detach().clone()
    optimizer = make_optimizer(variant, embedding.parameters())
    with pytest.raises(RuntimeError, match=r"sparse=False"):
        optimizer.step(lambda x: embedding(x).sum(), torch.arange(4))
    assert torch.equal(embedding.weight, before)


OPTIONS = {
    "plain": lambda p: StochasticGD(p, LR),
    "line search": lambda p: BatchGD(p, LR, line_search="armijo", step_size="barzilai-borwein"),
    "momentum": lambda p: BatchGD(p, LR, momentum=0.9),
    "averaged": lambda p: StochasticGD(p, LR, average=True, schedule="adaptive", weight_decay=0.1),
    "svrg": lambda p: StochasticGD(p, LR, variance_reduction="svrg", inner_passes=1),
    "warm-up": lambda p: MiniBatchGD(p, LR, 8, warmup=9, momentum=0.9, last="carry"),
}


def walk(optimizer, model, first, last, to=lambda rows: rows) -> None:
    """Walk through loader batches of 5 rows, 14 of which are a pass."""
    x, y = to(make_data())
    data = list(zip(x.split(5), y.split(5), strict=True)) * 4
    cost = nn.CrossEntropyLoss()
    for number in range(first, last):
        optimizer.step(lambda x, y: cost(model(x), y), *data[number])
        if number % 14 == 13:
            optimizer.end_epoch()


@pytest.mark.parametrize("way", ["file", "deepcopy", "pickle"])
@pytest.mark.parametrize("stop", [3, 14, 17, 31])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_resumes_to_the_last_bit(name, stop, way):
    model = make_model()
    optimizer = OPTIONS[name](model.parameters())
    walk(optimizer, model, 0, stop)
    if way == "file":
        file = io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict()), file)
        file.seek(0)
        values, state = torch.load(file, weights_only=True)
        twin = make_model()
        twin.load_state_dict(values)
        resumed = OPTIONS[name](twin.parameters())
        resumed.load_state_dict(state)
    elif way == "deepcopy":
        twin, resumed = copy.deepcopy((model, optimizer))
    else:
        twin, resumed = pickle.loads(pickle.dumps((model, optimizer)))
    walk(optimizer, model, stop, 56)
    walk(resumed, twin, stop, 56)
    assert torch.equal(snapshot(model), snapshot(twin))
    assert str(resumed.state_dict()["descent"]) == str(optimizer.state_dict()["descent"])


def test_state_with_other_options_is_refused_with_the_key_named():
    model = make_model()
    for name, other, key in (
        ("momentum", "line search", "line_search"),
        ("averaged", "svrg", "schedule"),
        ("svrg", "plain", "svrg"),
        ("line search", "momentum", "line_search"),
    ):
        with pytest.raises(ValueError, match=rf"\['descent'\]\['{key}'\]"):
            OPTIONS[other](model.parameters()).load_state_dict(OPTIONS[name](model.parameters()).state_dict())
