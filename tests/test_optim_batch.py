"""Batch descent on quadratics of known Hessian: stability, rate, line search, step sizes, convergence."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import torch_backprop.nn
from tests.sequential_sgd import LR, batches, descend, make_data, make_model, snapshot
from torch_backprop.optim import BatchGD

EIGENVALUES = (0.5, 1.0, 3.0, 10.0)
KAPPA = EIGENVALUES[-1] / EIGENVALUES[0]


class Quadratic:
    """The mean over rows z of (theta - z) H (theta - z) / 2, whose minimum is at the mean row."""

    def __init__(self, start: float = 5.0, shift: float = 1.0):
        generator = torch.Generator().manual_seed(2)
        rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator).double()).Q
        self.hessian = rotation @ torch.diag(torch.tensor(EIGENVALUES).double()) @ rotation.T
        self.rows = torch.randn(23, 4, generator=generator).double() + shift
        self.minimum = self.rows.mean(0)
        self.theta = (start * torch.randn(4, generator=generator).double()).requires_grad_()

    def __call__(self, z: Tensor) -> Tensor:
        return (((self.theta - z) @ self.hessian) * (self.theta - z)).sum(1).mean() / 2

    def gap(self) -> float:
        error = (self.theta - self.minimum).detach()
        return (error @ self.hessian @ error / 2).item()

    def descend(self, optimizer: BatchGD, passes: int) -> list[float]:
        gaps = [self.gap()]
        for _ in range(passes):
            for rows in optimizer.epoch(self.rows.split(7)):
                optimizer.step(self, rows)
            gaps.append(self.gap())
        return gaps


def test_the_largest_stable_lr_is_two_over_the_largest_eigenvalue():
    quadratic = Quadratic()
    optimizer = BatchGD([quadratic.theta], lr=0.1)
    found = optimizer.largest_stable_lr(quadratic, quadratic.rows.split(7), tol=1e-12)
    assert found == pytest.approx(2 / EIGENVALUES[-1], rel=1e-10)
    decayed = BatchGD([quadratic.theta], lr=0.1, weight_decay=2.0)
    found = decayed.largest_stable_lr(quadratic, quadratic.rows.split(7), tol=1e-12)
    assert found == pytest.approx(2 / (EIGENVALUES[-1] + 2.0), rel=1e-10)


def test_converges_below_it_and_diverges_above():
    below, above = Quadratic(), Quadratic()
    bound = 2 / EIGENVALUES[-1]
    gaps = below.descend(BatchGD([below.theta], lr=0.98 * bound), 400)
    assert gaps[-1] < 1e-10 < gaps[0]
    optimizer = BatchGD([above.theta], lr=1.02 * bound)
    with pytest.warns(UserWarning, match=r"objective rose from .* lower lr=0.204") as caught:
        gaps = above.descend(optimizer, 400)
    assert len(caught) == 1
    assert gaps[-1] > 1e3 * gaps[0]


def test_the_best_fixed_lr_has_the_textbook_rate():
    quadratic = Quadratic()
    gaps = quadratic.descend(BatchGD([quadratic.theta], lr=2 / (EIGENVALUES[0] + EIGENVALUES[-1])), 60)
    rate = ((KAPPA - 1) / (KAPPA + 1)) ** 2
    assert gaps[-1] / gaps[-2] == pytest.approx(rate, rel=1e-3)
    # Kantorovich: no pass is slower.
    assert all(after <= rate * before * (1 + 1e-9) for before, after in pairwise(gaps))


@pytest.mark.parametrize("step_size", [None, "barzilai-borwein"])
@pytest.mark.parametrize("lr", [1e-3, 0.3, 100.0])
@pytest.mark.parametrize("start", [1e-6, 1.0, 1e6])
def test_line_search_reaches_the_minimum_from_any_start(start, lr, step_size):
    quadratic = Quadratic(start)
    optimizer = BatchGD([quadratic.theta], lr=lr, line_search="armijo", step_size=step_size)
    while optimizer.updates < 2000 and (quadratic.theta - quadratic.minimum).abs().max() > 1e-10:
        quadratic.descend(optimizer, 1)
    assert (quadratic.theta - quadratic.minimum).abs().max() <= 1e-10
    assert optimizer.updates < (200 if step_size else 2000)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_barzilai_borwein_alone_is_faster_than_the_best_fixed_lr(shift):
    quadratic = Quadratic(shift=shift)
    quadratic.descend(BatchGD([quadratic.theta], lr=0.1, step_size="barzilai-borwein", tol=None), 60)
    assert quadratic.gap() < 1e-15


def test_barzilai_borwein_takes_the_step_of_equation_5():
    quadratic = Quadratic()
    optimizer = BatchGD([quadratic.theta], lr=0.05, step_size="barzilai-borwein")
    points = [quadratic.theta.detach().clone()]
    optimizer.register_update_hook(lambda _: points.append(quadratic.theta.detach().clone()))
    quadratic.descend(optimizer, 3)
    gradients = [quadratic.hessian @ (point - quadratic.minimum) for point in points]
    assert torch.allclose(points[1], points[0] - 0.05 * gradients[0])
    for k in (1, 2):
        s, y = points[k] - points[k - 1], gradients[k] - gradients[k - 1]
        assert torch.allclose(points[k + 1], points[k] - (s @ s) / (s @ y) * gradients[k], atol=1e-12)


def test_trial_points_cost_a_forward_pass_and_no_backward():
    quadratic, calls = Quadratic(), []

    def closure_of(rows):
        def closure():
            (z,) = optimizer.take(rows)
            cost = quadratic(z)
            if cost.requires_grad:
                cost.register_hook(lambda _: calls.append("backward"))
            calls.append("forward")
            cost.backward()
            return cost

        return closure

    optimizer = BatchGD([quadratic.theta], lr=1.0, line_search="armijo")
    optimizer._unseen.clear()
    for rows in optimizer.epoch(quadratic.rows.split(7)):
        optimizer.step(closure_of(rows))
    assert calls.count("backward") == 4
    trials = 1 - math.log2(optimizer._search.last)
    assert trials > 1
    assert calls.count("forward") == 4 * (1 + trials)


@pytest.mark.parametrize(
    "settings",
    [{}, {"weight_decay": 0.3}, {"max_norm": 0.5}, {"maximize": True}, {"normalize": "population"}],
)
def test_line_search_with_other_settings_lowers_the_objective(settings):
    model = make_model()
    optimizer = BatchGD(model.parameters(), 1.0, line_search="armijo", **settings)
    sign = -1 if settings.get("maximize") else 1
    objectives = []
    for _ in range(10):
        weight = torch.linspace(0, 2, 67)
        x, y = make_data()

        def cost(x, y, w):
            return (w * cross_entropy(model(x), y, reduction="none")).sum() / w.sum()

        for part in optimizer.epoch(zip(x.split(11), y.split(11), weight.split(11), strict=True)):
            optimizer.step(cost, *part, weight=part[-1])
        decay = settings.get("weight_decay", 0) / 2 * sum(p.norm().item() ** 2 for p in model.parameters())
        objectives.append(sign * cost(x, y, weight).item() + decay)
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] < objectives[0] - 1e-3


def test_cost_and_gradient_of_each_pass_are_exact():
    model, (x, y) = make_model(), make_data()
    optimizer = BatchGD(model.parameters(), LR)
    assert math.isnan(optimizer.cost)
    for _ in range(3):
        cost = cross_entropy(model(x), y)
        gradients = torch.autograd.grad(cost, list(model.parameters()))
        descend(optimizer, model, 11, epochs=1)
        assert optimizer.cost == pytest.approx(cost.item(), rel=1e-12)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        assert optimizer.gradient_norm == pytest.approx(norm, rel=1e-12)


def test_converges_by_the_gradient_or_by_the_cost():
    quadratic = Quadratic()
    optimizer = BatchGD([quadratic.theta], lr=0.1, tol=1e-3, n_iter_no_change=10**6)
    states = []
    for _ in range(200):
        gradient = quadratic.hessian @ (quadratic.theta - quadratic.minimum)
        quadratic.descend(optimizer, 1)
        states.append(optimizer.converged)
        assert optimizer.converged == bool(gradient.abs().max() <= 1e-3)
    assert {True, False} == set(states)
    slow = Quadratic()
    optimizer = BatchGD([slow.theta], lr=1e-9, tol=1e-6, n_iter_no_change=3)
    states = []
    for _ in range(5):
        slow.descend(optimizer, 1)
        states.append(optimizer.converged)
    assert states == [False, False, False, True, True]
    never = BatchGD([slow.theta], lr=1e-9, tol=None)
    slow.descend(never, 10)
    assert not never.converged


@pytest.mark.parametrize("layers", [nn, torch_backprop.nn])
def test_largest_stable_lr_of_a_perceptron(layers):
    torch.manual_seed(1)
    model = nn.Sequential(layers.Linear(3, 4), layers.Tanh(), layers.Linear(4, 1)).double()
    x = torch.randn(17, 3, dtype=torch.float64)
    y = x.sum(1, keepdim=True)
    parameters = dict(model.named_parameters())

    def cost_of(flat):
        parts = flat.split([parameter.numel() for parameter in parameters.values()])
        shaped = {
            name: part.view(parameter.shape)
            for (name, parameter), part in zip(parameters.items(), parts, strict=True)
        }
        return mse_loss(torch.func.functional_call(model, shaped, (x,)), y)

    hessian = torch.autograd.functional.hessian(cost_of, snapshot(model))
    expected = 2 / torch.linalg.eigvalsh(hessian)[-1].item()
    optimizer = BatchGD(model.parameters(), lr=0.1)
    data = list(zip(x.split(5), y.split(5), strict=True))
    found = optimizer.largest_stable_lr(lambda x, y: mse_loss(model(x), y), data, tol=1e-9)
    assert found == pytest.approx(expected, rel=1e-4)
    total = BatchGD(model.parameters(), lr=0.1, reduction="sum")
    found = total.largest_stable_lr(lambda x, y: mse_loss(model(x), y, reduction="sum"), data, tol=1e-9)
    assert found == pytest.approx(expected, rel=1e-4)


def test_largest_stable_lr_in_odd_cases():
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = BatchGD([theta], lr=0.1)
    rows = [torch.ones(3, 2).double()]
    assert optimizer.largest_stable_lr(lambda z: (theta * z).mean(), rows) == math.inf
    assert optimizer.largest_stable_lr(lambda z: -(theta**2 * z).mean(), rows) == math.inf
    ascent = BatchGD([theta], lr=0.1, maximize=True)
    assert ascent.largest_stable_lr(lambda z: -(theta**2 * z).sum(1).mean(), rows) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="loader has no rows"):
        optimizer.largest_stable_lr(lambda z: (theta * z).square().mean(), iter(rows))
    with pytest.warns(UserWarning, match="give more iterations"):
        optimizer.largest_stable_lr(Quadratic(), Quadratic().rows.split(7), iterations=1)


def test_what_cannot_go_together_is_refused():
    theta = torch.ones(2, requires_grad=True)
    for settings, name in (
        ({"line_search": "wolfe"}, "line_search"),
        ({"step_size": "fixed"}, "step_size"),
        ({"tol": -1}, "tol"),
        ({"tol": math.nan}, "tol"),
        ({"n_iter_no_change": 0}, "n_iter_no_change"),
        ({"line_search": "armijo", "momentum": 0.9}, "momentum"),
        ({"step_size": "barzilai-borwein", "momentum": 0.9}, "momentum"),
    ):
        chosen: dict[str, Any] = settings
        with pytest.raises(ValueError, match=f"^{name}="):
            BatchGD([theta], lr=0.1, **chosen)


def test_a_line_search_without_an_objective_is_refused():
    model, (x, y) = make_model(), make_data()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "maximize": True}]
    mixed = BatchGD(groups, LR, line_search="armijo")
    mixed.step(lambda x, y: cross_entropy(model(x), y), x, y)
    silent = BatchGD(model.parameters(), LR, line_search="armijo")
    silent.step(lambda: cross_entropy(model(silent.take(x, y)[0]), y).backward())
    for optimizer in (mixed, silent):
        with pytest.raises(ValueError, match="line_search needs to know what to lower"):
            optimizer.flush()
    assert torch.equal(snapshot(model), snapshot(make_model()))


def test_a_cost_that_fails_at_a_trial_point_leaves_the_parameters():
    quadratic, calls = Quadratic(), []

    def cost(z):
        calls.append(z)
        if len(calls) == 6:
            raise KeyError("trial")
        return quadratic(z)

    before = quadratic.theta.detach().clone()
    optimizer = BatchGD([quadratic.theta], lr=1.0, line_search="armijo")
    for rows in quadratic.rows.split(7):
        optimizer.step(cost, rows)
    with pytest.raises(KeyError):
        optimizer.flush()
    assert torch.equal(quadratic.theta, before)
    assert optimizer.updates == 0


def test_a_scheduler_takes_the_cost_of_the_pass():
    model = make_model()
    optimizer = BatchGD(model.parameters(), LR)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
    for _ in range(3):
        for x, y in optimizer.epoch(batches(29)):
            optimizer.step(lambda x, y: cross_entropy(model(x), y), x, y)
        schedule.step(optimizer.cost)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(LR / 1000)
