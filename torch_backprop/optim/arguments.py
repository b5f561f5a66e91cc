"""What the optimizers accept as arguments; every refusal names the argument, its value and the fix."""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, SupportsFloat, TypeGuard

from torch import Tensor
from typing_extensions import TypedDict

Rate = Callable[[int], float]

# Name: what is accepted, and how a refusal says it.
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "momentum": (lambda value: 0 <= value < 1, "a number from 0 to below 1, for example 0.9"),
    "dampening": (lambda value: 0 <= value <= 1, "a number from 0 to 1, for example 0"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "a finite number of at least 0, for example 1e-4"),
    "max_norm": (lambda value: 0 < value < math.inf, "a finite number above 0, for example 1.0, or None"),
    "tol": (lambda value: 0 <= value < math.inf, "a finite number of at least 0, for example 1e-4"),
    "power_t": (lambda value: 0 <= value < math.inf, "a finite number of at least 0, for example 0.5"),
}
_UNSUPPORTED = ("differentiable", "foreach", "fused", "capturable")


class Settings(TypedDict, total=False):
    """The arguments that the three optimizers have in common; see `Descent`."""

    momentum: float
    dampening: float
    nesterov: bool
    weight_decay: float
    maximize: bool
    max_norm: float | None
    reduction: str
    normalize: str


def require(accepted: bool, name: str, value: object, expected: str) -> None:
    """Refuse `value` for the argument `name` unless `accepted`.

    Raises:
        ValueError: naming the argument, the value and what is expected.
    """
    if not accepted:
        raise ValueError(f"{name}={value!r} is not possible: {name} must be {expected}.")


def is_number(value: object) -> TypeGuard[SupportsFloat]:
    """Whether `value` is a real number; True and False are not."""
    # Python's bool is an int: lr=True would pass for 1.
    return isinstance(value, Real) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Return a real number as one of Python's own, and anything else as it is."""
    # What numpy or fractions make, neither torch's operators nor torch.load(weights_only=True) all take.
    return float(value) if is_number(value) else value


def check_number(name: str, value: object) -> None:
    """Hold a number, such as momentum or tol, to its range.

    Raises:
        ValueError: if it is no real number or out of its range.
    """
    accepts, expected = _RANGES[name]
    require(is_number(value) and accepts(float(value)), name, value, expected)


def check_count(name: str, value: object, least: int = 1) -> None:
    """Hold a count, such as batch_size, to whole numbers of at least `least`.

    Raises:
        ValueError: if it is anything else.
    """
    accepted = isinstance(value, Integral) and is_number(value) and float(value) >= least
    require(accepted, name, value, f"a whole number of at least {least}, for example 32")


def check_lr(lr: object) -> None:
    """Hold a learning rate to what it may be at the start.

    Raises:
        ValueError: if it is neither a finite number above 0, nor one such element of a tensor, nor callable.
    """
    if isinstance(lr, Tensor):
        require(lr.numel() == 1, "lr", lr, "a number or a function; a Tensor lr must be 1-element")
    # A scheduler may take it to 0 later; at the start 0 is an oversight.
    number = lr.item() if isinstance(lr, Tensor) else lr
    accepted = callable(lr) or (is_number(number) and 0 < float(number) < math.inf)
    require(accepted, "lr", lr, "a finite number above 0, for example 0.1, or a function of the update count")


def check_max_norm(max_norm: object) -> None:
    """Hold the bound of the gradient's norm to None or a number above 0.

    Raises:
        ValueError: if it is anything else.
    """
    if max_norm is not None:
        check_number("max_norm", max_norm)


def check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    """Hold an option to its choices.

    Raises:
        ValueError: if `value` is none of them.
    """
    require(value in choices, name, value, "one of " + ", ".join(map(repr, choices)))


def check_group(group: Mapping[str, Any]) -> None:
    """Check the settings of one parameter group.

    Raises:
        ValueError: if a setting is out of its range, nesterov is asked for without momentum, or an
            implementation of torch.optim that these optimizers do not have.
    """
    check_lr(group["lr"])
    for name in ("momentum", "dampening", "weight_decay"):
        check_number(name, group[name])
    if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
        expected = "False without a momentum above 0 and a dampening of 0: set momentum=0.9, dampening=0"
        require(False, "nesterov", group["nesterov"], expected)
    # torch keeps keys that it does not know, and a group that asks for one of these would be none the wiser.
    for name in _UNSUPPORTED:
        require(not group.get(name), name, group.get(name), "left out, for there is one implementation")
