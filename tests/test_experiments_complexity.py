"""Operations and bytes as theory counts them, and the line that predicts the seconds."""

from dataclasses import asdict

import pytest

from experiments.complexity import measure as complexity
from experiments.complexity import predict, words
from torch_backprop import nn


def nothing(share, detail):
    pass


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
    text = words.headline({"width": timings})
    assert "all 12 predicted within 15 per cent" in text
    assert "for all 12 of the sizes" in text
    # Quadratic once the intercept is off, but not over the toy widths.
    assert words.growth("width", timings, "forward", line) == pytest.approx(1.92, abs=0.05)


def test_times_too_noisy_for_a_power_give_none():
    # The smallest size takes longest, as it may when something else holds the processor.
    timings = synthetic(2e-4, 1e-11, complexity.SWEEPS["width"][:3])
    timings[0] = complexity.Timing(**{**asdict(timings[0]), "forward": 1.0, "backward": 1.0})
    assert "too noisy to give a power" in words.sweep_line("width", timings)
    assert "grows as the power" not in words.headline({"width": timings})


def test_a_prediction_that_misses_is_told():
    timings = synthetic(2e-4, 1e-11, complexity.SWEEPS["width"])
    timings[1] = complexity.Timing(**{**asdict(timings[1]), "forward": 3 * timings[1].forward})
    assert "11 of 12 predicted within 15 per cent" in words.headline({"width": timings})


def test_time_is_linear_in_operations():
    # Two sizes as large as these stay apart on any machine: the second has 3.9 times the operations.
    sizes = [complexity.Size(width=256), complexity.Size(width=512)]
    small, large = complexity.measure(sizes, 4, 0, nothing)
    assert 2 < large.forward / small.forward < 8
    assert 1.2 < large.backward / large.forward < 3


def test_layers_of_a_complexity_model_are_ours():
    model = complexity.perceptron(64, complexity.Size(width=8, depth=2))
    assert [type(layer) for layer in model.children()] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
