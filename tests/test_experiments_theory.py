"""What the experiments on theory share: their costs, their command lines, and that a stop costs nothing."""

import pytest
import torch
from killed import promised

from experiments import catalogue, cli, interrupt
from experiments.configuration import build
from experiments.convergence import measure as convergence
from experiments.options import CHOSEN, READS
from experiments.run import RunError
from experiments.study import Account, Piece, study
from experiments.theory.curvature import minimum
from experiments.theory.problem import Problem

TRAINING = ("convergence", "learning_rate", "trajectory")

pytestmark = pytest.mark.usefixtures("signals")


def problem(name, experiment="convergence", decay=0.0, **given):
    return Problem.of(build(catalogue.options_of(experiment), given), name, decay)


PROBLEMS = [
    (experiment, name) for experiment in TRAINING for name in catalogue.options_of(experiment)().problems
]


@pytest.mark.parametrize(("experiment", "name"), PROBLEMS)
def test_layers_are_hand_derived_and_the_start_follows_the_seed(experiment, name):
    learner = problem(name, experiment, seed=3).learner()
    layers = [learner.cost, *(layer for layer in learner.network.modules() if not list(layer.children()))]
    assert all(type(layer).__module__.startswith("torch_backprop.") for layer in layers)

    def start(seed):
        other = problem(name, experiment, seed=seed)
        return other.surface(other.learner()).point()

    assert torch.equal(start(3), start(3))
    assert not torch.equal(start(3), start(4))


def test_the_quadratic_has_the_hessian_of_least_squares():
    quadratic = problem("quadratic")
    assert quadratic.quadratic
    surface = quadratic.surface(quadratic.learner())
    x = torch.cat([quadratic.rows.x, torch.ones_like(quadratic.rows.x[:, :1])], dim=1)
    torch.testing.assert_close(surface.hessian(surface.point()), 2 * x.T @ x / len(x))


def test_newton_finds_the_minimum_of_least_squares_and_knows_where_it_cannot():
    quadratic = problem("quadratic")
    surface = quadratic.surface(quadratic.learner())
    found = minimum(surface, surface.point())
    assert found is not None
    x = torch.cat([quadratic.rows.x, torch.ones_like(quadratic.rows.x[:, :1])], dim=1)
    torch.testing.assert_close(found, torch.linalg.lstsq(x, quadratic.rows.y).solution[:, 0])
    # At its start the perceptron's cost curves down along some direction.
    other = problem("perceptron")
    assert minimum(other.surface(other.learner()), other.surface(other.learner()).point()) is None


def test_a_surface_is_the_cost_with_its_penalty():
    logistic = problem("logistic-regression", decay=0.1)
    learner = logistic.learner()
    surface = logistic.surface(learner)
    cost = learner.measure(logistic.rows.x, logistic.rows.y)[0]
    penalty = sum(theta.square().sum().item() for theta in learner.parameters()) / 20
    assert surface.here() == pytest.approx(cost + penalty, rel=1e-12)
    assert surface.at(surface.point() - 0.1 * surface.gradient(surface.point())) < surface.here()


def test_squares_of_classes_are_those_of_their_vectors():
    learner = problem("perceptron", "learning_rate").learner()
    rows = problem("perceptron", "learning_rate").rows
    vectors = torch.eye(10, dtype=torch.float64)[rows.y]
    assert learner.mean_cost(rows.x, rows.y).item() == pytest.approx(
        (learner(rows.x) - vectors).square().mean().item(), rel=1e-12
    )


def test_a_cost_without_curvature_has_no_bound(monkeypatch):
    monkeypatch.setattr("torch_backprop.optim.BatchGD.largest_stable_lr", lambda *_, **__: torch.inf)
    quadratic = problem("quadratic")
    with pytest.raises(RunError, match="--seed: 0: quadratic has no curvature"):
        quadratic.bound(quadratic.learner())


@pytest.mark.parametrize("name", TRAINING)
def test_named_models_and_data_are_the_only_problem_unless_told_otherwise(name):
    kind = catalogue.options_of(name)
    assert all(model in READS for model, _ in kind.OWN.values())
    assert build(kind, {}).problems == tuple(kind.OWN)
    assert build(kind, {"data.name": "wine"}).problems == (CHOSEN,)
    both = build(kind, {"problems": ("quadratic", CHOSEN), "model.name": "recurrent"})
    assert both.named(CHOSEN)[1].name == "text"
    assert both.named("quadratic")[0].width == kind().model.width


FAST = {
    "convergence": ["--updates", "60"],
    "learning_rate": ["--variants", "batch,mini-batch"],
    "trajectory": ["--points", "20", "--grid", "11"],
    "complexity": ["--model.width", "32", "--rounds", "1"],
}


@pytest.mark.parametrize("name", FAST)
def test_a_fast_run_leaves_everything_that_is_promised(name, tmp_path, capsys):
    assert cli.main([name, "--fast", *FAST[name], "--out", str(tmp_path)]) == 0
    run = next((tmp_path / name).iterdir())
    assert f"{run}/report.html" in capsys.readouterr().out
    promised(run)
    if name == "trajectory":
        assert (run / "quadratic.png").read_bytes().startswith(b"\x89PNG")
        assert (run / "report.html").read_text().count("<animateMotion") == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convergence", "--rate", "1.5"], "--rate: '1.5'"),
        (["convergence", "--problems", "cubic"], "quadratic, logistic-regression, perceptron or chosen"),
        (
            ["convergence", "--problems", "quadratic", "--data", "wine"],
            "--data: 'wine' is in none of --problems",
        ),
        (
            ["convergence", "--model", "convolution", "--data", "iris"],
            "--model: 'convolution' does not read iris",
        ),
        (["trajectory", "--lr", "sgd=1"], "--lr: 'sgd' is unknown; choose batch, stochastic or mini-batch"),
        (["complexity", "--model", "linear", "--sweeps", "depth"], "--sweeps: 'depth' changes nothing"),
        (["complexity", "--trainer.devices", "2"], "--trainer.devices: no such option"),
        (["learning_rate", "--lowest", "5", "--highest", "1"], "--lowest: 5 is not below --highest"),
        (["complexity", "--sweeps", "height"], "width, depth, parameters, batch or data"),
        (["trajectory", "--grid", "3"], "from 10 to 500"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--out", str(tmp_path)])
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1
    assert not list(tmp_path.iterdir())


class Killed(BaseException):
    """What nobody catches, as nobody can catch SIGKILL."""


@pytest.mark.parametrize("death", [interrupt.Interrupted, Killed])
def test_a_stop_between_pieces_resumes_to_the_same_figures(death, tmp_path, monkeypatch, capsys):
    options = ["--problems", "quadratic,logistic-regression", "--updates", "30"]
    assert cli.main(["convergence", *options, "--out", str(tmp_path / "whole")]) == 0
    whole = next((tmp_path / "whole/convergence").iterdir())
    measured = []
    measure = convergence.measure

    def stop_at_second(run, problem, progress):
        measured.append(problem.name)
        if len(measured) == 2:
            raise death
        return measure(run, problem, progress)

    monkeypatch.setattr("experiments.convergence.experiment.measure", stop_at_second)
    if death is Killed:
        with pytest.raises(Killed):
            cli.main(["convergence", *options, "--out", str(tmp_path / "stopped")])
    else:
        assert cli.main(["convergence", *options, "--out", str(tmp_path / "stopped")]) == 130
    run = next((tmp_path / "stopped/convergence").iterdir())
    if death is not Killed:
        assert f"--resume {run}" in capsys.readouterr().err
        assert "logistic" not in (run / "metrics.csv").read_text()
        assert "Logistic" not in (run / "report.html").read_text()
    assert cli.main(["convergence", "--resume", str(run)]) == 0
    assert measured == ["quadratic", "logistic-regression", "logistic-regression"]
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_a_study_with_nothing_measured_still_reports(tmp_path):
    from experiments.convergence.options import Options
    from experiments.run import Run

    def stop(progress):
        raise interrupt.Interrupted

    run = Run.create("convergence", str(tmp_path), Options())
    account = Account("title", "subtitle", "", ("head",), [], [], ("column",), [])
    with pytest.raises(interrupt.Interrupted):
        study(run, {"piece": Piece("piece", 1.0, stop)}, lambda found: account)
    assert "Nothing has been measured yet." in (run.folder / "report.html").read_text()
