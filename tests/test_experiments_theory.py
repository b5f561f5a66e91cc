"""What the experiments on theory share: their costs, their command lines, and that a stop costs nothing."""

import csv
import re

import pytest
import torch

from experiments import catalogue, cli, interrupt
from experiments.complexity import measure as complexity
from experiments.complexity import options as complexity_options
from experiments.complexity import words as complexity_words
from experiments.convergence import measure as convergence
from experiments.convergence import options as convergence_options
from experiments.learning_rate import measure as rates
from experiments.learning_rate import options as rates_options
from experiments.study import Account, Piece, study
from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import digits_perceptron, least_squares, logistic_regression, perceptron
from experiments.theory.variants import VARIANTS, descend, group, optimizer
from experiments.trajectory import measure as trajectory
from experiments.trajectory import options as trajectory_options

NAMES = ("convergence", "learning_rate", "complexity", "trajectory")


pytestmark = pytest.mark.usefixtures("signals")


@pytest.mark.parametrize("make", [least_squares, logistic_regression, perceptron, digits_perceptron])
def test_layers_are_hand_derived_and_the_start_follows_the_seed(make):
    problem = make(3)
    layers = [layer for layer in (*problem.model.modules(), problem.loss) if not list(layer.children())]
    assert all(type(layer).__module__.startswith("torch_backprop.") for layer in layers)
    start = Surface(problem).point()
    assert torch.equal(start, Surface(make(3)).point())
    assert not torch.equal(start, Surface(make(4)).point())


def test_the_quadratic_has_the_hessian_of_least_squares():
    problem = least_squares()
    x = problem.x * 2**0.5
    torch.testing.assert_close(Surface(problem).hessian(Surface(problem).point()), x.T @ x / len(x))


def test_newton_finds_the_minimum_of_least_squares_and_knows_where_it_cannot():
    problem = least_squares()
    surface = Surface(problem)
    found = minimum(surface, surface.point())
    assert found is not None
    exact = torch.linalg.lstsq(problem.x, problem.y).solution[:, 0]
    torch.testing.assert_close(found, exact)
    # At its start the perceptron's cost curves down along some direction.
    other = Surface(perceptron())
    assert minimum(other, other.point()) is None


def test_a_surface_is_the_objective_and_moves_the_model():
    problem = logistic_regression()
    surface = Surface(problem)
    assert surface.at(surface.point()).item() == pytest.approx(problem.objective(), rel=1e-12)
    before = problem.objective()
    surface.move(surface.point() - 0.1 * surface.gradient(surface.point()))
    assert problem.objective() < before


@pytest.mark.parametrize(("variant", "updates"), [("batch", 2), ("mini-batch", 27), ("stochastic", 884)])
def test_each_variant_makes_its_own_number_of_updates(variant, updates):
    problem = least_squares()
    descent = optimizer(variant, problem, 1e-3, 32)
    assert group(variant, problem, 32) * updates <= 884
    assert all(cost > 0 for cost in descend(problem, descent, 884 - 884 % group(variant, problem, 32), 0))
    assert descent.updates == updates


def test_names_on_the_command_line_exist():
    assert set(convergence_options.PROBLEMS) == set(convergence.PROBLEMS)
    assert set(rates_options.PROBLEMS) == set(rates.PROBLEMS)
    assert set(rates_options.VARIANTS) == set(VARIANTS)
    assert set(complexity_options.SWEEPS) == set(complexity.SWEEPS) == set(complexity_words.AXES)
    assert set(trajectory_options.PROBLEMS) == set(trajectory.PROBLEMS) == set(trajectory.SHARES)
    assert set(NAMES) <= set(catalogue.EXPERIMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_fast_run_leaves_everything_that_is_promised(name, tmp_path, capsys):
    assert cli.main([name, "--fast", "--out", str(tmp_path)]) == 0
    run = next((tmp_path / name).iterdir())
    assert f"{run}/report.html" in capsys.readouterr().out
    assert {"config.yaml", "environment.yaml", "metrics.csv", "state.json", "events"} <= {
        path.name for path in run.iterdir()
    }
    with (run / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) >= 10
    text = (run / "report.html").read_text()
    # It needs nothing but itself, and its colours are the page's.
    assert not re.search(r"(src|href)=\"(?!#)|url\((?!#)|@import|<script|<link", text)
    assert not re.search(r"#[0-9a-f]{6}", text.split("</style>")[1].replace("url(#", ""))
    assert str(tmp_path) not in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).replace("finance", "")
    # No figure without a sentence before it.
    assert all("<p>" in part for part in text.split("<h2>")[1:])
    if name == "trajectory":
        assert (run / "quadratic.png").read_bytes().startswith(b"\x89PNG")
        assert text.count("<animateMotion") == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convergence", "--rate", "1.5"], "--rate: '1.5'"),
        (["convergence", "--problems", "cubic"], "quadratic, logistic-regression or perceptron"),
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
    options = ["--problems", "quadratic,logistic-regression", "--tol", "1e-4"]
    assert cli.main(["convergence", *options, "--out", str(tmp_path / "whole")]) == 0
    whole = next((tmp_path / "whole/convergence").iterdir())
    measured = []
    measure = convergence.measure

    def stop_at_second(name, *rest):
        measured.append(name)
        if len(measured) == 2:
            raise death
        return measure(name, *rest)

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
