"""English as windows of characters, each to be foretold from those before it."""

from pathlib import Path

import numpy as np

from experiments.data.source import DataError, Source


def windows(file: str, context: int) -> Source:
    """Cut a text into windows of `context` characters, whose targets are the same a character later.

    Args:
        file: A text in UTF-8; empty for Python's own documentation.
        context: Characters in a window.

    Raises:
        DataError: If the file cannot be read, or is too short.
    """
    text = _read(file) if file else documentation()
    alphabet, codes = np.unique(np.array(list(text)), return_inverse=True)
    # One character more than the windows hold, for the last one to foretell.
    count = (len(codes) - 1) // context
    if count < 20:
        raise DataError(f"--data: {file} has {len(text)} characters; {20 * context + 1} are the fewest.")
    x = codes[: count * context].reshape(count, context)
    y = codes[1 : count * context + 1].reshape(count, context)
    return Source(x, y, len(alphabet), "text")


def documentation() -> str:
    """Return the help that Python prints on its own language, some 700,000 characters of English."""
    from pydoc_data.topics import topics

    # Sorted, since the order of a dictionary is that of a Python version.
    return "\n".join(topics[name] for name in sorted(topics))


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"--data: {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"--data: {file} is no text in UTF-8: {error.reason} at byte {error.start}."
        ) from error
