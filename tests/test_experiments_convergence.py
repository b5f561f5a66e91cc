"""Batch descent to a minimum: what theory says of every update, and why it stopped."""

import json
import math
from dataclasses import asdict

import pytest

from experiments.convergence import measure as convergence
from experiments.convergence import words


def nothing(share, detail):
    pass


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
    assert words.difference(course) < 0.1
    assert course.law == []
    assert course.least is not None
    assert course.least > 0


def test_a_descent_cut_short_says_so_and_still_knows_its_minimum():
    course = convergence.measure("quadratic", 0.5, 1e-10, 10, 0, nothing)
    assert course.stop.reason == "the budget of 10 updates was spent"
    assert course.gaps[-1] > 1e-4
    assert course.condition == pytest.approx(470, rel=0.01)
    assert convergence.Course.of(json.loads(json.dumps(asdict(course)))) == course


def test_where_no_minimum_is_found_theory_is_silent():
    # So close to the bound the perceptron's sharpness, which rises, throws the descent about.
    course = convergence.measure("perceptron", 0.99, 1e-9, 100, 0, nothing)
    assert course.least is None
    assert math.isnan(course.theoretical)
    assert "no minimum was found" in words.course_line(course)


def test_one_update_has_no_slope():
    course = convergence.measure("quadratic", 0.5, 10.0, 100, 0, nothing)
    assert course.stop.updates == 1
    assert "too few updates" in words.course_line(course)


def test_a_large_tolerance_stops_where_the_gradient_is_small():
    course = convergence.measure("quadratic", 0.5, 0.5, 100, 0, nothing)
    assert course.stop.reason == "no element of the gradient was larger than the tolerance"
    assert course.stop.updates < 10
