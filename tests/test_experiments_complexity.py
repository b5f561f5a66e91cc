"""Operations and bytes as theory counts them, and the line that predicts the seconds."""

from dataclasses import asdict

import pytest

from experiments.complexity import counts, experiment, predict, words
from experiments.complexity import measure as complexity
from experiments.complexity.options import SWEEPS, Options
from experiments.configuration import build
from experiments.data.module import Data

WIDTHS = complexity.sizes(Options(), "width")
DIGITS = Data("digits")


def nothing(share, detail):
    pass


def passed(size, **given):
    options = build(Options, given)
    return complexity.Pass(options, Data(options.data.name), size).timing(1.0, 2.0)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_operations_and_bytes_are_those_that_theory_counts(sweep):
    for size in complexity.sizes(Options(), sweep)[:3]:
        timing = complexity.Pass(Options(), DIGITS, size).timing(1.0, 2.0)
        assert timing.expected == [timing.forward_flops, timing.backward_flops, timing.held]


def test_every_model_has_its_sizes_and_theory_counts_those_it_knows():
    small = complexity.Size(8, 1, 16, 32)
    for model in ("linear", "convolution", "recurrent", "transformer"):
        timing = passed(small, **{"model.name": model})
        known = timing.expected == [timing.forward_flops, timing.backward_flops, timing.held]
        assert known == (model == "linear")
        assert timing.backward_flops >= timing.forward_flops > 0
    assert build(Options, {"model.name": "linear"}).varied == ("batch", "data")
    # No formula for what the cost of values holds.
    assert passed(small, **{"data.name": "diabetes"}).expected is None


@pytest.mark.parametrize("width", [96, 128])
def test_products_of_every_kind_are_counted(width):
    # From a width on, a rule of recurrent layers may multiply by another kernel.
    timing = passed(complexity.Size(width, 1, 32, 32), **{"model.name": "recurrent", "data.name": "text"})
    assert timing.backward_flops == pytest.approx(2 * timing.forward_flops, rel=0.5)
    assert "compute again what the forward pass did not hold" in words.ratio({"width": [timing]})


def test_sizes_are_multiples_of_what_is_given():
    options = build(Options, {"model.name": "transformer", "model.heads": 2, "model.width": 8})
    assert [size.width for size in complexity.sizes(options, "width")] == [2, 4, 6, 8, 10, 12, 16, 20, 24]
    assert {size.batch for size in complexity.sizes(build(Options, {"batch_size": 40}), "data")} == {20}
    # Those of which the data have too few rows go over them again.
    large = complexity.Size(8, 1, 2000, 2000)
    assert len(complexity.Pass(Options(), DIGITS, large).batches[0][0]) == 2000


def synthetic(a, b, sizes):
    """Timings that follow the law exactly."""
    widths = [[64, *[size.width] * size.depth, 10] for size in sizes]
    known = [
        (*counts.flops(each, size.rows), counts.held(each, size.batch))
        for each, size in zip(widths, sizes, strict=True)
    ]
    return [
        complexity.Timing(vars(size), 1, *each, *(a + b * count for count in each[:2]), expected=list(each))
        for size, each in zip(sizes, known, strict=True)
    ]


def test_the_fit_finds_intercept_and_slope_and_predicts_the_rest():
    timings = synthetic(2e-4, 1e-11, WIDTHS)
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
    timings = synthetic(2e-4, 1e-11, WIDTHS[:3])
    timings[0] = complexity.Timing(**{**asdict(timings[0]), "forward": 1.0, "backward": 1.0})
    assert "too noisy to give a power" in words.sweep_line("width", timings)
    assert "grows as the power" not in words.headline({"width": timings})


def test_a_prediction_that_misses_is_told():
    timings = synthetic(2e-4, 1e-11, WIDTHS)
    timings[1] = complexity.Timing(**{**asdict(timings[1]), "forward": 3 * timings[1].forward})
    assert "11 of 12 predicted within 15 per cent" in words.headline({"width": timings})
    assert "The line misses forward by up to 6" in words.uncovered("width", timings)


def test_a_change_of_speed_is_told_where_the_line_misses():
    timings = synthetic(2e-4, 1e-11, WIDTHS)
    assert not words.uncovered("width", timings)
    assert words.speeds(timings, "backward") == (pytest.approx(100), pytest.approx(100))
    middle = timings[len(timings) // 2]
    # Beyond the middle an operation takes five times as long, as beyond a cache.
    slow = [
        complexity.Timing(
            **{**asdict(t), "backward": t.backward + 4e-11 * (t.backward_flops - middle.backward_flops)}
        )
        if t.backward_flops > middle.backward_flops
        else t
        for t in timings
    ]
    assert words.speeds(slow, "backward") == (pytest.approx(100), pytest.approx(20))
    text = words.uncovered("width", slow)
    assert "backward from 100.0 to 20.0 GFLOP/s" in text
    assert "forward" not in text


def test_where_width_and_depth_vary_each_layer_has_calls_of_its_own():
    sizes = [complexity.Size(width, depth, 256, 256) for width in (64, 128, 256) for depth in (2, 3, 5)]
    timings = [
        complexity.Timing(**{**asdict(t), "forward": t.forward + 7e-5 * t.size["depth"]})
        for t in synthetic(2e-4, 1e-11, sizes)
    ]
    line = predict.fit(predict.halves(timings)[0], "forward")
    assert (line.intercept, line.layer) == (pytest.approx(2e-4), pytest.approx(7e-5))
    assert line.calls(timings[0]) == pytest.approx(3.4e-4)
    assert max(map(abs, predict.misses(timings, "forward"))) < 1e-9
    assert "200 µs backward, and 70 and 0 µs more for each layer" in words.sweep_line("parameters", timings)
    assert not predict.fit(synthetic(2e-4, 1e-11, WIDTHS), "forward").layer


def test_bytes_that_vary_by_themselves_take_time_of_their_own():
    timings = [
        complexity.Timing(**{**asdict(t), "forward": t.forward + 3e-10 * t.held})
        for t in synthetic(2e-4, 1e-11, WIDTHS)
    ]
    line = predict.fit(predict.halves(timings)[0], "forward")
    assert (line.intercept, line.slope, line.byte) == tuple(map(pytest.approx, (2e-4, 1e-11, 3e-10)))
    assert "a megabyte held takes 300 and 0 µs more" in words.sweep_line("width", timings)
    assert "with terms for layers and bytes held" in words.headline({"width": timings})
    # Of a batch's rows operations and bytes are the same multiple.
    rows = synthetic(2e-4, 1e-11, complexity.sizes(Options(), "batch"))
    assert not predict.fit(rows, "forward").byte


def test_no_term_takes_less_than_nothing():
    # The larger the faster.
    timings = [
        complexity.Timing(**{**asdict(t), "forward": 1 / t.forward_flops})
        for t in synthetic(2e-4, 1e-11, WIDTHS)
    ]
    line = predict.fit(timings, "forward")
    assert min(line.intercept, line.slope, line.layer, line.byte) == 0
    assert "∞ and 100 GFLOP/s" in words.sweep_line("width", timings)
    assert experiment.account(Options(), {"width": [asdict(t) for t in timings]}).rows[0][2] == "∞"


def test_time_is_linear_in_operations(monkeypatch):
    # Two sizes as large as these stay apart on any machine: the second has 3.9 times the operations.
    sizes = [complexity.Size(width, 3, 256, 256) for width in (256, 512)]
    monkeypatch.setattr(complexity, "sizes", lambda options, sweep: sizes)
    small, large = complexity.measure(Options(rounds=4), "width", nothing)
    assert 2 < large.forward / small.forward < 8
    assert 1.2 < large.backward / large.forward < 3
