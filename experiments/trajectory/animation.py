"""A figure whose paths are walked again, in the page and without a script: SVG's own animation (SMIL).

Each variant moves by the examples that it has seen, so that at any moment all three have seen as many.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import dist

SECONDS = 12
# The heads of the paths, in the order and the shapes of the legend.
SHAPES = (
    "M -5 0 a 5 5 0 1 0 10 0 a 5 5 0 1 0 -10 0",
    "M 0 -6 L 5.5 4.5 L -5.5 4.5 Z",
    "M -4.5 -4.5 h 9 v 9 h -9 Z",
)
# Of a figure's paths by the name given to matplotlib as their gid.
PATH = r'<g id="walk-{}">\s*<path d="([^"]+)"([^>]*)/>\s*</g>'
AGAIN = "again-{}"


def animate(svg: str, name: str, times: Mapping[int, Sequence[float]]) -> str:
    """Make the paths of a figure grow, each with a mark at its head.

    Args:
        svg: The figure, with paths whose gid is ``walk-SERIES``; their vertices are the points of the walk.
        name: Of the figure, unlike any other's on the page.
        times: For each series the share of the whole time at which each point is reached, from 0 to 1.
    """
    for series, reached in times.items():
        found = re.search(PATH.format(series), svg)
        if found is None:
            raise ValueError(f"the figure has no path with gid walk-{series}")
        svg = svg[: found.start()] + _walked(found[1], found[2], name, series, reached) + svg[found.end() :]
    return svg.replace("</svg>", f"{_button(svg, name)}</svg>")


def _walked(line: str, style: str, name: str, series: int, reached: Sequence[float]) -> str:
    """Return a path that grows, and the mark at its head."""
    vertices = [(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", line)]
    if len(vertices) != len(reached):
        raise ValueError(f"the path has {len(vertices)} points, of which {len(reached)} have a time")
    lengths = [0.0, *accumulate(map(dist, vertices, vertices[1:]))]
    # A path that stands still has no length to divide by.
    shares = [length / (lengths[-1] or 1.0) for length in lengths]
    times = (
        f'keyTimes="{_join(reached)}" dur="{SECONDS}s" begin="0s;{AGAIN.format(name)}.click" fill="freeze"'
    )
    grow = f'<animate attributeName="stroke-dashoffset" values="{_join([1 - s for s in shares])}" {times}/>'
    path = f'<path d="{line}"{style} pathLength="1" stroke-dasharray="1">{grow}</path>'
    way = " ".join(line.split())
    move = f'<animateMotion path="{way}" keyPoints="{_join(shares)}" calcMode="linear" {times}/>'
    style = f'fill="var(--series-{series})" stroke="var(--page)" stroke-width="1.5"'
    return f'<g>{path}<path d="{SHAPES[series]}" {style}>{move}</path></g>'


def _button(svg: str, name: str) -> str:
    height = float(re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[0])
    # At the left, where it is in sight also where the figure is wider than the screen.
    text = f'<text x="4" y="{height - 5:g}" font-size="10">▶ play again</text>'
    return f'<g id="{AGAIN.format(name)}" style="cursor: pointer; fill: var(--ink)">{text}</g>'


def _join(values: Sequence[float]) -> str:
    # Rounding must not take the ends off 0 and 1, which SMIL insists on.
    return ";".join(f"{min(max(value, 0.0), 1.0):.5g}" for value in values)
