"""The benchmark's figure: ratios in their order."""

from collections.abc import Sequence

from experiments.figure import INK, SERIES, SOFT, scale, sketch


def dots(pairs: Sequence[tuple[str, float]], title: str, noun: str, log: bool = True) -> str:
    """Draw ratios from the least to the greatest, with the names of the outermost.

    Args:
        pairs: Names and ratios.
        title: What the ratios are of.
        noun: What has the names.
        log: Whether the ratios' axis is logarithmic.
    """
    ordered = sorted(pairs, key=lambda pair: pair[1])
    with sketch(title, 9.0, 3.2) as drawing:
        axes = drawing.axes[0]
        axes.axhline(1.0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        places = range(1, len(ordered) + 1)
        axes.scatter(places, [ratio for _, ratio in ordered], color=SERIES[0], s=14, zorder=3)
        for place, (name, ratio), side in ((1, ordered[0], "left"), (len(ordered), ordered[-1], "right")):
            axes.annotate(name, (place, ratio), (0, 7), textcoords="offset points", ha=side, color=INK)
        # Room for the names of the first and the last.
        axes.margins(y=0.2)
        scale(axes, False, log)
        axes.set_xlabel(f"{noun}s, in the order of the ratio")
        axes.set_title(title, loc="left", fontsize=10)
    return drawing.svg
