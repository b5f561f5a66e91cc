"""The figures: how high over the minimum, and how steep, against the updates made."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from experiments.convergence.measure import Course
from experiments.figure import INK, SERIES, scale, sketch


def heights(course: Course) -> str:
    """Draw the cost's height over its minimum, and theory's beside it."""
    factor = course.theoretical**2
    law = course.law or _anchored(course.updates, course.gaps, factor)
    label = "theory, every update" if course.law else f"theory, × {factor:.5f} per update"
    ends = [(stop.updates - 1, stop.gap) for stop in (course.early, course.stop)]
    return _draw(course, course.gaps, law, label, ends, "cost over its minimum")


def norms(course: Course) -> str:
    """Draw the gradient's norm, and the slope that theory gives its end."""
    law = _anchored(course.updates, course.norms, course.theoretical)
    ends = [(stop.updates - 1, stop.norm) for stop in (course.early, course.stop)]
    label = f"theory, × {course.theoretical:.5f} per update"
    return _draw(course, course.norms, law, label, ends, "2-norm of the gradient")


def _draw(
    course: Course,
    values: Sequence[float],
    law: Sequence[float],
    label: str,
    ends: Sequence[tuple[float, float]],
    title: str,
) -> str:
    with sketch(f"{title} against updates, {course.problem}", 4.4, 3.2) as drawing:
        axes = drawing.axes[0]
        seen = [(k, value) for k, value in zip(course.updates, values, strict=True) if value > 0]
        axes.plot(*zip(*seen, strict=True), color=SERIES[0], linewidth=2.6, label="measured")
        dashed = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 3))}
        axes.plot(course.updates, law, label=label, **dashed)
        _mark(axes, ends)
        low, high = min(value for _, value in seen), max(values)
        axes.set_ylim(low / 3, high * 3)
        scale(axes, False, True)
        axes.set_xlabel("updates")
        axes.set_title(f"{title}, {course.unit}", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper right")
    return drawing.svg


def _mark(axes: Axes, ends: Sequence[tuple[float, float]]) -> None:
    (early, early_value), (end, end_value) = ends
    axes.plot([early], [early_value], "o", markersize=11, fillstyle="none", color=SERIES[1])
    axes.plot([end], [end_value], "o", markersize=6, color=SERIES[0], clip_on=False)


def _anchored(updates: Sequence[int], values: Sequence[float], factor: float) -> list[float]:
    """Return the straight line of this slope that ends where the measured curve does."""
    return [values[-1] * factor ** (k - updates[-1]) for k in updates]
