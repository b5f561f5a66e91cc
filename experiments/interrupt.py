"""Ctrl-C and SIGTERM as one exception that reaches the experiment from wherever it is."""

import signal

_received: list[int] = []


class Interrupted(BaseException):
    """Someone asked the process to stop.

    Not a KeyboardInterrupt, because Lightning would answer that one by leaving the process.
    """


def listen() -> None:
    """Raise `Interrupted` in the main thread at the first SIGINT or SIGTERM, and pass over later ones.

    The last lines are then written in peace, however often Ctrl-C is pressed.
    """
    _received.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def ignore() -> None:
    """Leave the end of the process to itself: there is nothing left to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Raise again what a destructor or a C callback may have swallowed.

    Raises:
        Interrupted: If a signal has arrived since `listen`.
    """
    if _received:
        raise Interrupted


def _stop(number: int, _frame: object) -> None:
    # Not twice: the first is being answered, by writing down what was measured.
    if not _received:
        _received.append(number)
        raise Interrupted
