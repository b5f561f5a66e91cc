"""Bad arguments and wrong uses are refused in a sentence that names the argument, its value and the fix."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.sequential_sgd import LR, make_data, make_model, snapshot
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD

BAD_SETTINGS = [
    *(("lr", value) for value in (0, -0.1, math.nan, math.inf, "0.1", None, True, torch.ones(2))),
    *(("momentum", value) for value in (-0.1, 1, 1.5, math.nan, "0.9")),
    *(("dampening", value) for value in (-0.1, 1.1, math.nan)),
    *(("weight_decay", value) for value in (-1e-4, math.inf, math.nan)),
    *(("max_norm", value) for value in (0, -1, math.nan)),
    ("nesterov", True),
    ("reduction", "none"),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
@pytest.mark.parametrize("optimizer", [BatchGD, StochasticGD, MiniBatchGD])
def test_bad_settings(optimizer, name, value):
    settings = {"lr": LR, **({"batch_size": 8} if optimizer is MiniBatchGD else {}), name: value}
    with pytest.raises(ValueError, match=f"^{name}=.*{name} must be "):
        optimizer(make_model().parameters(), **settings)


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", None, True])
def test_bad_batch_size(value):
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        MiniBatchGD(make_model().parameters(), LR, value)


def test_bad_last():
    with pytest.raises(ValueError, match="last must be one of 'own', 'drop', 'expected', 'carry'"):
        MiniBatchGD(make_model().parameters(), LR, 8, last="keep")


def test_a_bad_parameter_group_is_not_added():
    model = make_model()
    optimizer = StochasticGD(model[0].parameters(), LR)
    with pytest.raises(ValueError, match="momentum=2"):
        optimizer.add_param_group({"params": model[2].parameters(), "momentum": 2})
    assert len(optimizer.param_groups) == 1


def test_a_bad_function_of_the_update_count():
    model = nn.Linear(1, 1)
    optimizer = StochasticGD(model.parameters(), lambda update: LR if update < 2 else math.nan)
    with pytest.raises(ValueError, match=r"lr\(2\)=nan"):
        optimizer.step(lambda x: model(x).mean(), torch.ones(5, 1))
    assert optimizer.updates == 0


def test_a_function_and_a_scheduler_at_once():
    model = nn.Linear(1, 1)
    optimizer = StochasticGD(model.parameters(), lambda update: LR)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="use one of the two"):
        optimizer.step(lambda x: model(x).mean(), torch.ones(5, 1))


X, Y = make_data()


def until(optimizer, updates, model, *shape):
    """Return a cost that is good up to some update, and then not finite or of a wrong shape."""

    def cost(x):
        good = model(x).mean()
        if optimizer.updates < updates:
            return good
        return good.expand(shape) if shape else good * math.nan

    return cost


def backward(cost):
    cost.backward()
    return cost


BAD_STEPS = {
    "no closure": (lambda o, m: o.step(), TypeError, r"write optimizer\.step\(cost, inputs, targets\)"),
    "a tensor": (lambda o, m: o.step(m(X).sum()), TypeError, "needs the cost"),
    "weight alone": (lambda o, m: o.step(lambda: None, weight=X), TypeError, "weight belongs to rows"),
    "no take": (lambda o, m: o.step(lambda: m(X).sum().backward()), RuntimeError, "never called take"),
    "no backward": (lambda o, m: o.step(lambda: m(o.take(X)[0]).sum()), RuntimeError, r"call cost\.backward"),
    "take outside": (lambda o, m: o.take(X), RuntimeError, "inside the closure given to step"),
    "lengths": (lambda o, m: o.step(m, X, Y[1:]), ValueError, r"rows\[1\] has 66 rows and rows\[0\] has 67"),
    "nested": (lambda o, m: o.step(m, {"x": X, "y": Y[1:]}), ValueError, r"rows\[0\]\['y'\] has 66 rows"),
    "0-dim": (lambda o, m: o.step(m, X, X.sum()), ValueError, r"rows\[1\] is a scalar"),
    "text": (lambda o, m: o.step(m, X, "y"), TypeError, r"rows\[1\] is a str"),
    "nothing": (lambda o, m: o.step(m, ()), TypeError, "rows holds no tensor"),
    "weights": (lambda o, m: o.step(m, X, weight=X), ValueError, r"weight has shape \(67, 5\)"),
    "negative": (lambda o, m: o.step(m, X, weight=-torch.ones(67)), ValueError, r"weight\[0\]=-1\.0"),
    "nan": (lambda o, m: o.step(m, X, weight=torch.full((67,), math.nan)), ValueError, r"weight\[0\]=nan"),
    "no scalar": (lambda o, m: o.step(m, X), ValueError, r"cost returned shape \(8, 3\)"),
    "not finite": (lambda o, m: o.step(lambda x: m(x).sum() / 0, X), ValueError, "cost is inf|cost is -inf"),
    "later not finite": (
        lambda o, m: o.step(until(o, 3, m), X),
        ValueError,
        "The cost is nan, which is not finite",
    ),
    "later no scalar": (lambda o, m: o.step(until(o, 3, m, 2), X), ValueError, r"cost returned shape \(2,\)"),
    "later in a closure": (
        lambda o, m: o.step(lambda: backward(until(o, 3, m)(*o.take(X)))),
        ValueError,
        "The cost is nan",
    ),
    "no tensor": (lambda o, m: o.step(lambda x: 1.0, X), TypeError, "cost returned a float"),
    "no grad": (lambda o, m: o.step(lambda x: x.sum(), X), ValueError, "cost returned a tensor without grad"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_bad_steps_leave_everything_as_it_was(name):
    wrong, error, match = BAD_STEPS[name]
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    with pytest.raises(error, match=match):
        wrong(optimizer, model)
    assert torch.equal(snapshot(model), snapshot(make_model()))
    assert (optimizer.updates, optimizer.examples_seen) == (0, 0)
    optimizer.step(lambda x, y: nn.functional.cross_entropy(model(x), y), X, Y)
    assert optimizer.updates == 8


@pytest.mark.parametrize(("taken", "end"), [(3, 8), (8, 16)])
def test_a_hook_that_refuses_an_update_leaves_everything_as_it_was(taken, end):
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, momentum=0.9)

    def cost(x, y):
        return nn.functional.cross_entropy(model(x), y)

    optimizer.step(cost, X[:taken], Y[:taken])
    parameters, state = snapshot(model), copy.deepcopy(optimizer.state_dict())

    def fail(*_):
        raise ZeroDivisionError

    optimizer.register_update_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(cost, X[taken:end], Y[taken:end])
    assert torch.equal(snapshot(model), parameters)
    found = optimizer.state_dict()
    assert (found["descent"]["examples"], found["descent"]["examples_seen"]) == (taken % 8, taken)
    torch.testing.assert_close(found["descent"]["sums"], state["descent"]["sums"], rtol=0, atol=0)


def test_a_step_that_fails_after_the_model_was_made_double():
    model = make_model().float()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    optimizer.step(lambda x: model(x).mean(), X[:16].float())
    model.double()
    with torch.no_grad():
        next(model.parameters()).add_(1e-12)
    before = snapshot(model)
    with pytest.raises(ValueError, match="not finite"):
        optimizer.step(until(optimizer, 3, model), X)
    assert torch.equal(snapshot(model), before)


def test_rows_that_change_within_a_step():
    model = make_model()
    optimizer = StochasticGD(model.parameters(), LR)
    with pytest.raises(ValueError, match="take\\(\\) got 66 rows, and 67 before"):
        optimizer.step(lambda: optimizer.take(X[:66] if optimizer.take(X) else X))
