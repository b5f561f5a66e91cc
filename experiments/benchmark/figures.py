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
        # They rise: there is room below the first, and above the last.
        for place, end, side, height in (
            (1, ordered[0], "left", -15),
            (len(ordered), ordered[-1], "right", 7),
        ):
            axes.annotate(
                end[0], (place, end[1]), (0, height), textcoords="offset points", ha=side, color=INK
            )
        # Room for the names of the first and the last.
        axes.margins(y=0.2)
        scale(axes, False, log)
        axes.set_xlabel(f"{noun}s, in the order of the ratio")
        axes.set_title(title, loc="left", fontsize=10)
    return drawing.svg


def bars(pairs: Sequence[tuple[str, float]], title: str) -> str:
    """Draw times from the least to the greatest, each with its number, on a logarithmic axis.

    Args:
        pairs: Names and times.
        title: What the times are, and in which unit.
    """
    ordered = sorted(pairs, key=lambda pair: pair[1])
    names, times = [name for name, _ in ordered], [time for _, time in ordered]
    with sketch(title, 9.0, 0.6 + 0.3 * len(ordered)) as drawing:
        axes = drawing.axes[0]
        places = range(len(ordered))
        axes.hlines(places, min(times) / 2, times, color=SERIES[0], linewidth=9)
        for place, time in zip(places, times, strict=True):
            axes.annotate(f"{time:,.3g}", (time, place), (6, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlim(min(times) / 2, max(times) * 3)
        scale(axes, True, False)
        axes.set_yticks(places, names)
        axes.set_xlabel(title)
    return drawing.svg
