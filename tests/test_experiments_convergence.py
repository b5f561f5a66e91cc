"""Batch descent to a minimum: what theory says of every update, and why it stopped."""

import json
import math
from dataclasses import asdict

import pytest

from experiments.configuration import build
from experiments.convergence import measure as convergence
from experiments.convergence import words
from experiments.convergence.options import Options
from experiments.run import Run
from experiments.theory.problem import Problem

# A penalty so large that a descent takes hundreds of updates, and not thousands.
DECAY = 0.3


def nothing(share, detail):
    pass


@pytest.fixture
def descend(tmp_path):
    def descend(name, **given):
        options = build(Options, {"tol": 1e-10, "decay": DECAY, **given})
        run = Run.create("convergence", str(tmp_path), options)
        return convergence.measure(run, Problem.of(options, name, options.decay), nothing)

    return descend


def test_convergence_of_the_quadratic_is_the_law_at_every_update(descend):
    course = descend("quadratic")
    for measured, law in zip(course.gaps, course.law, strict=True):
        assert measured == pytest.approx(law, rel=1e-4, abs=1e-13)
    assert words.difference(course) < 0.02
    assert "fell by less than the tolerance" in course.stop.reason
    assert course.early.updates < course.stop.updates
    assert course.early.gap > course.stop.gap > 0
    # Half of the bound makes the steepest direction vanish at once; the flattest decides.
    assert course.lr * course.most == pytest.approx(1, abs=0.01)
    assert "from the flattest direction" in words.course_line(course)


@pytest.mark.parametrize("name", ["logistic-regression", "perceptron"])
def test_convergence_has_theorys_slope_near_the_minimum(name, descend):
    course = descend(name)
    assert words.difference(course) < 0.1
    assert course.law == []
    assert course.least is not None
    assert course.least > 0


def test_a_descent_cut_short_says_so_and_still_knows_its_minimum(descend):
    course = descend("quadratic", updates=10, decay=0.01)
    assert course.stop.reason == "the budget of 10 updates was spent"
    assert course.gaps[-1] > 1e-4
    assert course.condition == pytest.approx(339, rel=0.01)
    assert convergence.Course.of(json.loads(json.dumps(asdict(course)))) == course


def test_where_no_minimum_is_found_theory_is_silent(descend, monkeypatch):
    # So close to the bound the perceptron's sharpness, which rises, throws the descent about.
    monkeypatch.setattr(convergence, "TRIES", 1)
    monkeypatch.setattr(convergence, "FARTHER", 0)
    course = descend("perceptron", rate=0.99, updates=100, decay=0.01)
    assert course.least is None
    assert math.isnan(course.theoretical)
    assert "none was found where the descent led" in words.course_line(course)


def test_a_model_and_data_of_choice_and_too_many_parameters(descend):
    course = descend("chosen", **{"data.name": "iris", "model.width": 130, "updates": 10})
    assert course.problem == "perceptron on iris"
    assert course.parameters == 130 * 8 + 3
    assert course.least is None
    assert "the Hessian of 1,043 parameters is too large" in words.course_line(course)


def test_one_update_has_no_slope(descend):
    course = descend("quadratic", tol=10.0)
    assert course.stop.updates == 1
    assert "too few updates" in words.course_line(course)


def test_a_large_tolerance_stops_where_the_gradient_is_small(descend):
    course = descend("quadratic", tol=0.5)
    assert course.stop.reason == "no element of the gradient was larger than the tolerance"
    assert course.stop.updates < 10
