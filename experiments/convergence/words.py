"""What the courses say, in sentences written from their numbers."""

import math
from collections.abc import Sequence

from experiments.convergence.measure import MOST_PARAMETERS, Course, Stop
from experiments.words import series

# A relative difference of the rates, that is of 1 - factor, up to which they are said to agree.
AGREES = 0.05


def difference(course: Course) -> float:
    """Return by how much of itself the theoretical rate 1 - factor is missed by the measured one."""
    theoretical = 1 - course.theoretical
    return abs((1 - course.measured) - theoretical) / theoretical


def headline(courses: Sequence[Course]) -> str:
    """Say on how many costs the slope is the one that theory gives."""
    agree = [course.problem for course in courses if difference(course) <= AGREES]
    if not agree:
        return "On none of the costs does the measured slope agree with theory: see the table."
    worst = max(difference(course) for course in courses if course.problem in agree)
    kept = f"Near the minimum the gradient shrinks as theory says on {series(['the ' + n for n in agree])}"
    lost = [course.problem for course in courses if course.problem not in agree]
    rest = f" On {series(['the ' + name for name in lost])} it does not yet." if lost else ""
    return f"{kept}: the rate is within {100 * worst:.2g} per cent of 1 − |1 − η λ|.{rest}"


def course_line(course: Course) -> str:
    """Say how fast one descent was, and what made it so."""
    if math.isnan(course.measured):
        return f"At rate {course.lr:.3g} there were too few updates to measure a slope."
    if course.least is None or course.most is None:
        why = (
            f"the Hessian of {course.parameters:,} parameters is too large for one to be sought"
            if course.parameters > MOST_PARAMETERS
            else "none was found where the descent led"
        )
        return (
            f"At rate {course.lr:.3g} each of the last updates multiplied the gradient by"
            f" {course.measured:.6f}; theory has nothing to say of the slope without the minimum, and {why}."
        )
    # The slower of the two ends of the spectrum decides.
    flat = abs(1 - course.lr * course.least) >= abs(1 - course.lr * course.most)
    direction = "flattest" if flat else "steepest"
    law = (
        " Of a quadratic cost theory knows every update, and the dashed curve is drawn from it alone."
        if course.law
        else " The dashed lines have theory's slope and end where the descent does."
    )
    return (
        f"At rate {course.lr:.3g}, {course.lr / course.bound:.2g} of the bound 2/λₘₐₓ at the start,"
        f" each of the last updates multiplied the gradient by {course.measured:.6f}; theory says"
        f" {course.theoretical:.6f}, from the {direction} direction of a minimum whose condition number is"
        f" {course.condition:,.0f}.{law}"
    )


def stop_line(course: Course) -> str:
    """Say where the descent stopped, where the default tolerance would have, and why."""
    return (
        f"It stopped after {course.stop.updates:,} updates with tolerance {course.stop.tol:g}, because"
        f" {course.stop.reason}: {course.stop.gap:.1e} over the minimum. {_early(course.early)}"
    )


def _early(stop: Stop) -> str:
    return (
        f"The default tolerance of {stop.tol:g} (ring) stops it after {stop.updates:,}, because"
        f" {stop.reason}: {stop.gap:.1e} over the minimum."
    )
