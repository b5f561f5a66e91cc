"""What the experiments on theory measure, held against theory, and that a stop costs nothing."""

import csv
import json
import re
import signal
from dataclasses import asdict

import pytest
import torch

from experiments import catalogue, cli, interrupt
from experiments.complexity import measure as complexity
from experiments.complexity import options as complexity_options
from experiments.complexity import predict
from experiments.complexity import words as complexity_words
from experiments.convergence import measure as convergence
from experiments.convergence import options as convergence_options
from experiments.convergence import words as convergence_words
from experiments.learning_rate import measure as rates
from experiments.learning_rate import options as rates_options
from experiments.learning_rate import words as rates_words
from experiments.learning_rate.experiment import rates as listed
from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import digits_perceptron, least_squares, logistic_regression, perceptron
from experiments.theory.study import Account, Piece, study
from experiments.theory.variants import VARIANTS, descend, group, optimizer
from experiments.trajectory import measure as trajectory
from experiments.trajectory import options as trajectory_options
from experiments.trajectory.animation import animate
from torch_backprop import nn

NAMES = ("convergence", "learning_rate", "complexity", "trajectory")


def nothing(share, detail):
    pass


@pytest.fixture(autouse=True)
def _signals():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


# Problems and their curvature


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


# Convergence


def test_convergence_of_the_quadratic_is_the_law_at_every_update():
    course = convergence.measure("quadratic", 0.5, 1e-10, 20_000, 0, nothing)
    for measured, law in zip(course.gaps, course.law, strict=True):
        assert measured == pytest.approx(law, rel=1e-4, abs=1e-13)
    assert course.measured == pytest.approx(course.theoretical, abs=1e-6)
    assert "fell by less than the tolerance" in course.stop.reason
    assert course.early.updates < course.stop.updates
    assert course.early.gap > course.stop.gap > 0


@pytest.mark.parametrize("name", ["logistic-regression", "perceptron"])
def test_convergence_has_theorys_slope_near_the_minimum(name):
    course = convergence.measure(name, 0.5, 1e-10, 20_000, 0, nothing)
    assert convergence_words.difference(course) < 0.1
    assert course.law == []
    assert course.least is not None
    assert course.least > 0


def test_a_descent_cut_short_says_so_and_still_knows_its_minimum():
    course = convergence.measure("quadratic", 0.5, 1e-10, 10, 0, nothing)
    assert course.stop.reason == "the budget of 10 updates was spent"
    assert course.gaps[-1] > 1e-4
    assert course.condition == pytest.approx(470, rel=0.01)
    assert convergence.Course.of(json.loads(json.dumps(asdict(course)))) == course


def test_a_large_tolerance_stops_where_the_gradient_is_small():
    course = convergence.measure("quadratic", 0.5, 0.5, 100, 0, nothing)
    assert course.stop.reason == "no element of the gradient was larger than the tolerance"
    assert course.stop.updates < 10


# Learning rates


def test_batch_descent_diverges_beyond_the_bound_and_not_before():
    problem = rates.PROBLEMS["quadratic"](0)
    bound = rates.bound(problem)
    largest = torch.linalg.eigvalsh(Surface(problem).hessian(Surface(problem).point()))[-1]
    assert bound == pytest.approx(2 / largest.item(), rel=1e-3)
    trials = [rates.attempt(problem, "batch", share * bound, 60, 32, 3) for share in (0.5, 0.98, 1.05, 4.0)]
    assert [trial.diverged for trial in trials] == [False, False, True, True]
    assert rates.edge(trials, "batch") == (0.98 * bound, 1.05 * bound)
    best = rates.suggestion(trials, "batch")
    assert best is not None
    assert best.lr == 0.5 * bound
    assert "lies between" in rates_words.theory("quadratic", trials, bound)


def test_costs_that_are_not_finite_count_as_diverged():
    problem = rates.PROBLEMS["quadratic"](0)
    for variant in VARIANTS:
        assert rates.attempt(problem, variant, 1e30, 40, 32, 1).diverged
    assert rates.suggestion([rates.attempt(problem, "batch", 1e30, 3, 32, 1)], "batch") is None


def test_sharpness_rises_along_batch_descent():
    problem = rates.one_hot_perceptron(0, 100)
    run = rates.follow(problem, rates.bound(problem) / 2, 120, 40, nothing)
    assert run.updates == [0, 40, 80, 120]
    assert run.sharpness[-1] > run.sharpness[0]
    assert run.costs[-1] < run.costs[0]
    assert "rises from" in rates_words.stability([run])


def test_rates_are_evenly_spaced_and_hold_both_ends():
    options = rates_options.Options(lowest=0.01, highest=10.0, per_decade=2)
    assert listed(options) == pytest.approx([10 ** (power / 2) for power in range(-4, 3)])


# Complexity


@pytest.mark.parametrize("sweep", complexity.SWEEPS)
def test_operations_and_bytes_are_those_that_theory_counts(sweep):
    for size in complexity.SWEEPS[sweep][:3]:
        timing = complexity.Pass(size).timing(1.0, 2.0)
        assert predict.flops(size) == (timing.forward_flops, timing.backward_flops)
        assert predict.held(size) == timing.held


def synthetic(a, b, sizes):
    """Timings that follow the law exactly."""
    counts = [predict.flops(size) for size in sizes]
    return [
        complexity.Timing(vars(size), 1, *flops, predict.held(size), *(a + b * count for count in flops))
        for size, flops in zip(sizes, counts, strict=True)
    ]


def test_the_fit_finds_intercept_and_slope_and_predicts_the_rest():
    timings = synthetic(2e-4, 1e-11, complexity.SWEEPS["width"])
    line = predict.fit(predict.halves(timings)[0], "backward")
    assert (line.intercept, line.slope) == (pytest.approx(2e-4), pytest.approx(1e-11))
    assert max(map(abs, predict.misses(timings, "forward"))) < 1e-9
    text = complexity_words.headline({"width": timings})
    assert "all 12 predicted within 15 per cent" in text
    assert "for all 12 of the sizes" in text
    # Quadratic once the intercept is off, but not over the toy widths.
    assert complexity_words.growth("width", timings, "forward", line) == pytest.approx(1.92, abs=0.05)


def test_a_prediction_that_misses_is_told():
    timings = synthetic(2e-4, 1e-11, complexity.SWEEPS["width"])
    timings[1] = complexity.Timing(**{**asdict(timings[1]), "forward": 3 * timings[1].forward})
    assert "11 of 12 predicted within 15 per cent" in complexity_words.headline({"width": timings})


def test_time_is_linear_in_operations():
    # Two sizes as large as these stay apart on any machine: the second has 3.9 times the operations.
    sizes = [complexity.Size(width=256), complexity.Size(width=512)]
    small, large = complexity.measure(sizes, 4, 0, nothing)
    assert 2 < large.forward / small.forward < 8
    assert 1.2 < large.backward / large.forward < 3


# Trajectories


def test_paths_and_map_of_the_quadratic():
    plane = trajectory.measure("quadratic", trajectory.Extent(2, 32, 50, 15, 0), nothing)
    assert {variant: path.updates for variant, path in plane.paths.items()} == {
        "batch": 2,
        "stochastic": 884,
        "mini-batch": 28,
    }
    assert sum(plane.held) == pytest.approx(1)
    for path in plane.paths.values():
        # The coordinates are the parameters themselves.
        assert (path.across[0], path.along[0]) == (2.2, -0.4)
        assert path.examples[-1] == 884
        assert plane.across[0] < min(path.across) <= max(path.across) < plane.across[-1]
        assert path.costs[-1] < path.costs[0]
    assert min(map(min, plane.costs)) <= min(path.costs[-1] for path in plane.paths.values()) * 1.05


def test_the_plane_of_a_network_holds_its_paths():
    line = torch.arange(5.0)[:, None] * torch.tensor([3.0, 4.0, 0.0, 0.0])
    origin, directions, held = trajectory.plane(line + 7)
    assert held[0] == pytest.approx(1)
    torch.testing.assert_close(directions[0].abs(), torch.tensor([0.6, 0.8, 0.0, 0.0]))
    torch.testing.assert_close(origin, line[2] + 7)


def test_animation_moves_through_every_vertex_in_its_time():
    path = '<g id="walk-0">\n<path d="M 0 0 \nL 3 4 \nL 3 14 \n" style="x"/>\n</g>'
    svg = f'<svg viewBox="0 0 100 50">{path}</svg>'
    moving = animate(svg, "map", {0: [0, 0.25, 1]})
    assert 'values="1;0.66667;0" keyTimes="0;0.25;1"' in moving
    assert 'keyPoints="0;0.33333;1" calcMode="linear" keyTimes="0;0.25;1"' in moving
    assert moving.count('begin="0s;again-map.click"') == 2
    with pytest.raises(ValueError, match="of which 2 have a time"):
        animate(svg, "map", {0: [0, 1]})
    with pytest.raises(ValueError, match="walk-1"):
        animate(svg, "map", {1: [0, 1]})


# The command line, the run folder and the report


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
        assert len(list(csv.DictReader(file))) >= 20
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


def test_a_stop_between_pieces_resumes_to_the_same_figures(tmp_path, monkeypatch, capsys):
    options = ["--problems", "quadratic,logistic-regression", "--tol", "1e-4"]
    assert cli.main(["convergence", *options, "--out", str(tmp_path / "whole")]) == 0
    whole = next((tmp_path / "whole/convergence").iterdir())
    measured = []
    measure = convergence.measure

    def stop_at_second(name, *rest):
        measured.append(name)
        if len(measured) == 2:
            raise interrupt.Interrupted
        return measure(name, *rest)

    monkeypatch.setattr("experiments.convergence.experiment.measure", stop_at_second)
    assert cli.main(["convergence", *options, "--out", str(tmp_path / "stopped")]) == 130
    run = next((tmp_path / "stopped/convergence").iterdir())
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


def test_layers_of_a_complexity_model_are_ours():
    model = complexity.perceptron(64, complexity.Size(width=8, depth=2))
    assert [type(layer) for layer in model.children()] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
