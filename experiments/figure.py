"""Figures as inline SVG, in the page's own colours and letters, so that light and dark both suit them."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from experiments.run import replacing

# matplotlib wants real colours; each of these stands for a CSS variable that the page defines. The series are
# those of Okabe and Ito (2008), which the colour-blind can tell apart.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5f3f")
INK, SOFT, GRID = "#111111", "#777777", "#dddddd"
VARIABLES = {
    INK: "ink",
    SOFT: "soft",
    GRID: "grid",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES)},
}
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "experiments",
    "font.size": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


class Sketch:
    """A figure of one or several axes, on its way to the page.

    Attributes:
        axes: where to draw; all of them, from left to right.
        svg: the figure as SVG, once the block of `sketch` has ended.
    """

    def __init__(self, figure: Figure, axes: Sequence[Axes]) -> None:
        self.figure, self.axes, self.svg = figure, list(axes), ""

    def save(self, file: Path) -> None:
        """Write the figure as a PNG, within the block."""
        with replacing(file) as path:
            self.figure.savefig(path, format="png", dpi=150, facecolor="white")


@contextmanager
def sketch(title: str, width: float = 4.4, height: float = 3.0, columns: int = 1) -> Iterator[Sketch]:
    """Give a figure to draw on, in the page's style.

    Args:
        title: What it shows, for those who cannot see it.
        width: In inches, of which the page makes its own; 4.4 is half of it, 9 the whole.
        height: In inches.
        columns: Axes side by side.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        drawing = Sketch(figure, figure.subplots(1, columns, squeeze=False)[0])
        yield drawing
        drawing.svg = svg(figure, title)


def scale(axes: Axes, log_x: bool, log_y: bool) -> None:
    """Make axes logarithmic where they are to be, and write their numbers out; call it when all is drawn."""
    # Half a page's width, or all of it, in pixels.
    room = 5 if axes.bbox.width < 400 else 9
    for log, axis in ((log_x, axes.xaxis), (log_y, axes.yaxis)):
        # A training that was stopped at its start has nothing to the right of 0.
        least, most = axis.get_data_interval()
        if log and 0 < least <= most < math.inf:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            low, high = sorted(axis.get_view_interval())
            decades = math.log10(high / low)
            locators = [LogLocator(subs=subs) for subs in ((1.0,), (1.0, 2.0, 5.0))]
            # Of an axis with one number on it nothing can be read.
            read = [each for each in locators[decades <= 2 :] if _inside(each, low, high) > 2]
            axis.set_major_locator(read[0] if read else MaxNLocator(4))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        else:
            # Of what is counted, as updates are, there are no halves.
            counted = float(least).is_integer() and float(most).is_integer() and most - least >= 2
            axis.set_major_locator(MaxNLocator(room, steps=(1, 2, 2.5, 5, 10), integer=counted))
        axis.set_major_formatter(FuncFormatter(_number))


def svg(figure: Figure, title: str) -> str:
    """Render a figure and hand its colours and fonts over to the page."""
    buffer = io.StringIO()
    # Without a date, so that the same run gives the same bytes.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    opening = rf'<svg viewBox="\1" role="img" aria-label="{title}">'
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', opening, text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page's own fonts: sizes stay, families go.
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    for standin, name in VARIABLES.items():
        text = text.replace(standin, f"var(--{name})")
    return text


def _inside(locator: LogLocator, low: float, high: float) -> int:
    return sum(low <= tick <= high for tick in locator.tick_values(low, high))


def _number(value: float, _: object) -> str:
    # A logarithmic axis over many decades would not have the room.
    return f"{value:,.10g}" if 1e-4 <= abs(value) < 1e7 or value == 0 else f"{value:.0e}"
