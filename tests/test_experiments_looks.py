"""What a reader meets on a page: columns that line up, axes with numbers, names that are told apart."""

import re

from rich.console import Console

from experiments.benchmark.figures import bars, dots
from experiments.figure import scale, sketch
from experiments.page import table
from experiments.runs import Record
from experiments.terminal import Bar


def test_words_stand_to_the_left_and_numbers_to_the_right() -> None:
    heads = ("fault", "planted as", "found", "ratio", "by name", "why")
    rows = ["a", "cube", "8 of 8", "1.5e-07", "", "<b>too far</b>"], ["b", "2-d", "–", "<b>12</b>", "yes", ""]
    page = table(heads, rows)
    # Those of single words are not broken at a hyphen.
    assert re.findall(r'<th class="text">([^<]*)', page) == ["planted as", "by name"]
    assert re.findall(r'<th class="text phrase">([^<]*)', page) == ["why"]
    assert table(("a", "b"), []).count("<th") == 3


def test_no_axis_has_fewer_than_three_numbers() -> None:
    for low, high in ((0.9, 1.3), (1.0, 2.0), (0.1, 1.0), (0.02, 2.4), (1e-6, 1e3)):
        with sketch("ratios") as drawing:
            axes = drawing.axes[0]
            axes.plot([1, 2], [low, high])
            scale(axes, False, True)
            below, above = axes.get_ylim()
            shown = [tick for tick in axes.get_yticks() if below <= tick <= above]
            assert len(shown) >= 3
            # Nor are they all at one end of it.
            assert max(shown) / min(shown) >= (above / below) ** 0.4


def test_what_is_counted_has_no_halves_and_half_a_page_has_few_numbers() -> None:
    for last, most in ((2, 3), (2000, 6)):
        with sketch("cost against updates") as drawing:
            axes = drawing.axes[0]
            axes.plot([0, last], [0.5, 0.7])
            scale(axes, False, False)
            ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= last]
            assert ticks == list(map(round, ticks))
            assert 3 <= len(ticks) <= most


def test_the_ends_are_named_and_each_way_has_its_number() -> None:
    drawn = dots([("slow", 2.0), ("fast", 0.5), ("other", 1.0)], "time over PyTorch's", "layer")
    assert "fast" in drawn
    assert "slow" in drawn
    assert "other" not in drawn
    drawn = bars([("loop", 100.0), ("compiled", 0.5)], "microseconds")
    assert all(f">{text}<" in drawn for text in ("loop", "100", "compiled", "0.5"))


def test_runs_are_told_apart_by_seed() -> None:
    rows = [{"variant": "batch", "seed": str(seed), "cost": "1"} for seed in (0, 1)]
    assert list(Record("r", {}, rows).series()) == ["batch, seed 0", "batch, seed 1"]


def test_in_a_narrow_terminal_no_number_is_cut() -> None:
    console = Console(force_terminal=True, width=60)
    with console.capture() as shown, Bar(console, 2.0) as bar:
        bar.begin(1.0, "Training 12/24 · mini-batch 32 · epoch 12.0 · cost 0.123")
        bar._progress.refresh()
    plain = re.sub(r"\x1b\[[\d;?]*\w", "", shown.get())
    assert re.search(r"Training 12/24 .*… ━+ +0% 0:00:00 · -:--:-- left", plain)
