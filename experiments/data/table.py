"""Tables: those that ship with scikit-learn, and any of openml.org."""

import warnings
from typing import Any
from urllib.parse import quote

import numpy as np
import sklearn.datasets
from scipy.sparse import issparse

from experiments.data.source import DataError, Source, fetched

REGRESSION = ("diabetes", "serum")
# Two columns of diabetes that rise and fall together.
SERUM = {4: "total serum cholesterol", 5: "low-density lipoproteins"}


def shipped(name: str) -> Source:
    """Load a table that comes with scikit-learn; the digits as images of one channel."""
    table = "diabetes" if name == "serum" else name
    x, y = getattr(sklearn.datasets, f"load_{table}")(return_X_y=True)
    x = x[:, list(SERUM)] if name == "serum" else x
    if name in REGRESSION:
        return Source(x, y, 1, "values")
    return Source(x.reshape(-1, 1, 8, 8) if name == "digits" else x, y, len(np.unique(y)), "classes")


def openml(name: str) -> Source:
    """Fetch a table from openml.org, or from scikit-learn's cache; a target of numbers is a regression."""
    return fetched(f"openml:{name}", "scikit-learn", lambda: _openml(name))


def _openml(name: str) -> Source:
    with warnings.catch_warnings():
        # That there is no network is said once, when all attempts have failed.
        warnings.filterwarnings("ignore", "A network error occurred")
        # The parser that needs no pandas.
        options: dict[str, Any] = {"as_frame": False, "parser": "liac-arff", "return_X_y": True}
        # It becomes part of an address.
        x, y = sklearn.datasets.fetch_openml(quote(name, safe=""), **options)
    x = x.toarray() if issparse(x) else x
    try:
        x = np.asarray(x, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"--data: openml:{name}: a column is no number ({error}).") from error
    if y is None or y.ndim != 1:
        count = "no target" if y is None else f"{y.shape[1]} targets"
        raise DataError(f"--data: openml:{name} has {count}; give a set that has one.")
    if np.issubdtype(y.dtype, np.number):
        return Source(x, y.astype(np.float64), 1, "values")
    # As a text, a missing category would become one more class.
    missing = sum(value is None or value != value for value in y)
    if missing:
        raise DataError(f"--data: openml:{name}: {missing} of the targets are missing.")
    classes, codes = np.unique(y.astype(str), return_inverse=True)
    return Source(x, codes, len(classes), "classes")
