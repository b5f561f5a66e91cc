"""Stochastic descent: scikit-learn's schedules and averages, variance reduction on breast_cancer."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.sequential_sgd import LR, batches, descend, make_model, snapshot
from torch_backprop.optim import StochasticGD, WindowSampler

ALPHA = 0.01
EPOCHS = 6


def standardized(load) -> tuple[Tensor, Tensor]:
    x, y = load(return_X_y=True)
    y = (y - y.mean()) / y.std() if load is load_diabetes else y
    # Diabetes small enough for the large first rates of "optimal".
    scale = 0.1 if load is load_diabetes else 1.0
    return scale * torch.from_numpy(StandardScaler().fit_transform(x)), torch.from_numpy(y).double()


CANCER, DIABETES = standardized(load_breast_cancer), standardized(load_diabetes)


def logistic(output: Tensor, y: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(output.squeeze(1), y)


def squared(output: Tensor, y: Tensor) -> Tensor:
    return (output.squeeze(1) - y).square().mean() / 2


def make_linear(features: int) -> nn.Linear:
    model = nn.Linear(features, 1).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def train(model, optimizer, loss, data, epochs=EPOCHS, size=100) -> None:
    for _ in range(epochs):
        for x, y in optimizer.epoch(zip(data[0].split(size), data[1].split(size), strict=True)):
            optimizer.step(lambda x, y: loss(model(x), y), x, y)


SCHEDULES = {
    "constant": ({}, {}),
    "optimal": ({"lr": ALPHA**-0.25}, {}),
    "invscaling": ({"power_t": 0.3}, {"power_t": 0.3}),
    # So that the rate falls after the third pass.
    "adaptive": ({"tol": 0.05, "n_iter_no_change": 1}, {"tol": 0.05, "n_iter_no_change": 1}),
}


@pytest.mark.parametrize("average", [False, True, 700])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("task", ["classifier", "regressor"])
@pytest.mark.filterwarnings("ignore:Maximum number of iteration reached")
def test_agrees_with_scikit_learn(task, name, average):
    ours, theirs = SCHEDULES[name]
    lr = 0.005
    learner, loss, data = {
        "classifier": (SGDClassifier(loss="log_loss"), logistic, CANCER),
        "regressor": (SGDRegressor(loss="squared_error"), squared, DIABETES),
    }[task]
    settings = {"alpha": ALPHA, "learning_rate": name, "eta0": lr, "shuffle": False, "max_iter": EPOCHS}
    learner.set_params(**{"tol": None, **settings, **theirs, "average": average})
    learner.fit(data[0].numpy(), data[1].numpy())
    model = make_linear(data[0].shape[1])
    groups = [{"params": [model.weight], "weight_decay": ALPHA}, {"params": [model.bias]}]
    chosen: dict[str, Any] = {"lr": lr, "schedule": name, "average": average, **ours}
    optimizer = StochasticGD(groups, **chosen)
    train(model, optimizer, loss, data)
    if average:
        optimizer.swap_average()
    np.testing.assert_allclose(
        model.weight.detach().numpy().ravel(), learner.coef_.ravel(), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(model.bias.item(), learner.intercept_.item(), rtol=0, atol=1e-9)


def test_adaptive_converges_at_the_smallest_rate():
    model = nn.Linear(1, 1).double()
    optimizer = StochasticGD(model.parameters(), 1e-5, schedule="adaptive", tol=1.0, n_iter_no_change=2)
    states = []
    for _ in range(7):
        train(model, optimizer, squared, (torch.ones(3, 1).double(), torch.ones(3).double()), epochs=1)
        states.append((optimizer.converged, optimizer.param_groups[0]["lr"]))
    assert [state[0] for state in states] == [False] * 6 + [True]
    assert [state[1] for state in states] == pytest.approx([1e-5] * 3 + [2e-6] * 2 + [4e-7] * 2)


class Logistic:
    """L2-regularised logistic regression on breast_cancer, with its optimum by Newton's method."""

    decay = 0.1

    def __init__(self):
        self.x, self.y = CANCER
        theta = torch.zeros(self.x.shape[1], dtype=torch.float64)
        for _ in range(30):
            hessian = torch.autograd.functional.hessian(self.objective, theta)
            (gradient,) = torch.autograd.grad(self.objective(theta.requires_grad_()), theta)
            theta = (theta - torch.linalg.solve(hessian, gradient)).detach()
        self.optimum, self.lowest = theta, self.objective(theta).item()
        self.theta = torch.zeros_like(theta).requires_grad_()

    def objective(self, theta: Tensor) -> Tensor:
        cost = binary_cross_entropy_with_logits(self.x @ theta, self.y)
        return cost + self.decay / 2 * theta.square().sum()

    def gap(self) -> float:
        return self.objective(self.theta.detach()).item() - self.lowest

    def descend(self, optimizer: StochasticGD, passes: int) -> list[float]:
        sampler = WindowSampler(len(self.y), 100, seed=1)
        gaps = []
        for _ in range(passes):
            for rows in optimizer.epoch([torch.tensor(indices) for indices in sampler]):
                optimizer.step(self.cost, self.x[rows], self.y[rows])
            gaps.append(self.gap())
        return gaps

    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(x @ self.theta, y)


def test_the_average_is_nearer_the_optimum_than_the_last_iterate():
    logistic = Logistic()
    optimizer = StochasticGD(
        [logistic.theta], lr=0.01, weight_decay=logistic.decay, average=4 * len(logistic.y)
    )
    logistic.descend(optimizer, 16)
    last, distance = logistic.gap(), (logistic.theta - logistic.optimum).norm()
    with optimizer.averaged():
        assert logistic.gap() < last / 10
        assert (logistic.theta - logistic.optimum).norm() < distance / 2
    assert logistic.gap() == last


def test_svrg_falls_linearly_where_sgd_stalls():
    reduced, plain = Logistic(), Logistic()
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": reduced.decay}
    svrg = StochasticGD([reduced.theta], variance_reduction="svrg", inner_passes=1, **settings)
    gaps = reduced.descend(svrg, 24)[1::2]
    stalled = plain.descend(StochasticGD([plain.theta], **settings), 24)
    # A straight line on a log axis: each outer iteration cuts the gap by one and the same factor.
    logs, outer = np.log(gaps[2:]), np.arange(len(gaps) - 2)
    slope, _ = np.polyfit(outer, logs, 1)
    assert slope < -1
    assert np.corrcoef(outer, logs)[0, 1] < -0.995
    assert gaps[-1] < 1e-4 * min(stalled)
    assert stalled[-1] > stalled[8] / 3


def test_svrg_takes_the_steps_of_the_paper():
    data = list(batches(5))[:3]
    x, y = torch.cat([batch[0] for batch in data]), torch.cat([batch[1] for batch in data])
    cost = nn.CrossEntropyLoss()
    model, twin = make_model(), make_model()
    optimizer = StochasticGD(model.parameters(), LR, variance_reduction="svrg", inner_passes=2)
    parameters = list(twin.parameters())

    def gradient(rows):
        return torch.autograd.grad(cost(twin(x[rows]), y[rows]), parameters)

    for _ in range(2):
        kept, mean = copy.deepcopy(twin.state_dict()), gradient(slice(None))
        for index in [*range(15), *range(15)]:
            here = gradient([index])
            values = copy.deepcopy(twin.state_dict())
            twin.load_state_dict(kept)
            there = gradient([index])
            twin.load_state_dict(values)
            with torch.no_grad():
                for theta, a, b, mu in zip(parameters, here, there, mean, strict=True):
                    theta -= LR * (a - b + mu)
    for number in range(6):
        for batch in optimizer.epoch(data):

            def closure(batch=batch):
                x, y = optimizer.take(*batch)
                loss = cost(model(x), y)
                loss.backward()
                return loss

            if number % 2:
                optimizer.step(closure)
            else:
                optimizer.step(lambda x, y: cost(model(x), y), *batch)
    assert (snapshot(model) - snapshot(twin)).abs().max() < 1e-12
    assert (optimizer.updates, optimizer.examples_seen) == (60, 90)


def test_averages_are_the_mean_of_the_iterates():
    model = make_model()
    optimizer = StochasticGD(model.parameters(), LR, average=5, momentum=0.9)
    iterates: list[Tensor] = []
    optimizer.register_update_hook(lambda _: iterates.append(snapshot(model)))
    descend(optimizer, model, 29)
    last = snapshot(model)
    with optimizer.averaged():
        assert (snapshot(model) - torch.stack(iterates[4:]).mean(0)).abs().max() < 1e-13
        with optimizer.averaged():
            assert (snapshot(model) - torch.stack(iterates[4:]).mean(0)).abs().max() < 1e-13
        with pytest.raises(RuntimeError, match="parameters are averages now"):
            descend(optimizer, model, 29)
        inside = copy.deepcopy(optimizer.state_dict())
        values = copy.deepcopy(model.state_dict())
    assert torch.equal(snapshot(model), last)
    # Saved while they are exchanged: the same is so after loading.
    other = make_model()
    other.load_state_dict(values)
    resumed = StochasticGD(other.parameters(), LR, average=5, momentum=0.9)
    resumed.load_state_dict(inside)
    resumed.swap_average()
    assert torch.equal(snapshot(other), last)


def test_population_weights_scale_the_update():
    model, twin = make_model(), make_model()
    x, y = next(iter(batches(12)))
    weight = torch.linspace(0, 2, 12)
    optimizer = StochasticGD(model.parameters(), LR, normalize="population")
    optimizer.step(lambda x, y: nn.functional.cross_entropy(model(x), y), x, y, weight=weight)
    sgd = torch.optim.SGD(twin.parameters(), LR)
    for index in range(1, 12):
        sgd.zero_grad()
        (weight[index].item() * nn.functional.cross_entropy(twin(x[[index]]), y[[index]])).backward()
        sgd.step()
    assert (snapshot(model) - snapshot(twin)).abs().max() < 1e-14


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"schedule": "cosine"}, "schedule"),
        ({"schedule": "optimal"}, "schedule"),
        ({"schedule": "invscaling", "lr": lambda update: 0.1}, "lr"),
        ({"power_t": -1}, "power_t"),
        ({"tol": math.nan}, "tol"),
        ({"n_iter_no_change": 1.5}, "n_iter_no_change"),
        ({"average": -1}, "average"),
        ({"average": 0.5}, "average"),
        ({"variance_reduction": "saga"}, "variance_reduction"),
        ({"inner_passes": 0}, "inner_passes"),
    ],
)
def test_bad_settings(settings, name):
    chosen: dict[str, Any] = {"lr": LR, **settings}
    with pytest.raises(ValueError, match=f"^{name}="):
        StochasticGD(make_model().parameters(), **chosen)


def test_a_schedule_and_a_scheduler_at_once():
    model = make_model()
    optimizer = StochasticGD(model.parameters(), LR, schedule="invscaling")
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="use one of the two"):
        descend(optimizer, model, 11)


def test_without_an_average_there_is_none():
    with (
        pytest.raises(RuntimeError, match="average=True"),
        StochasticGD(make_model().parameters(), LR).averaged(),
    ):
        pass
