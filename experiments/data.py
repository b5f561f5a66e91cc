"""Real tables that ship with scikit-learn: split, standardized, and served in one recorded order."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from lightning.pytorch import LightningDataModule
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

REGRESSION = ("diabetes",)
# Large enough that Lightning's cost of a step is small change, small enough to show progress.
LOADER_ROWS = 256


@dataclass(frozen=True)
class Part:
    """Some rows of a table: x of shape (N, features), y of shape (N,) classes or (N, 1) values."""

    x: Tensor
    y: Tensor


class Order:
    """The order of the examples in each epoch, a function of seed and epoch alone.

    It serves a list of rows for each loader batch, and keeps a digest of what it has served.
    """

    def __init__(self, examples: int, rows: int, seed: int) -> None:
        self.examples, self.rows, self.seed = examples, rows, seed
        self.epoch = 0
        self.served: dict[int, str] = {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.examples // self.rows)

    def __iter__(self) -> Iterator[list[int]]:
        # Not torch's global generator: what else draws from that must not change the order.
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.examples)
        self.served[self.epoch] = sha256(order.astype("<i8").tobytes()).hexdigest()[:12]
        for first in range(0, self.examples, self.rows):
            yield order[first : first + self.rows].tolist()


class Table(LightningDataModule):
    """A data set in three parts: 60 per cent to train, 20 to validate, 20 to test.

    Each part holds every class, or every tenth of a regression's target, in the same proportion. Means and
    deviations come from the training part alone.
    """

    def __init__(self, name: str, seed: int) -> None:
        super().__init__()
        self.name, self.seed = name, seed
        self.regression = name in REGRESSION
        x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
        strata = np.digitize(y, np.quantile(y, np.arange(0.1, 1, 0.1))) if self.regression else y
        self.score = "test R²" if self.regression else "test accuracy"
        self.rows = split(strata, seed)
        train = self.rows["train"]
        x = standardize(x, train)
        # A target in its own units would leave no learning rate in common with the other data sets.
        y = standardize(y[:, None], train) if self.regression else y
        dtypes = torch.float32, torch.float32 if self.regression else torch.int64
        tensors = [torch.tensor(values, dtype=dtype) for values, dtype in zip((x, y), dtypes, strict=True)]
        self.parts = {part: Part(*(tensor[rows] for tensor in tensors)) for part, rows in self.rows.items()}
        self.features = x.shape[1]
        self.outputs = 1 if self.regression else len(np.unique(y))
        self.order = Order(len(train), LOADER_ROWS, seed)

    def train_dataloader(self) -> DataLoader:
        """Serve the training part in the recorded order."""
        part = self.parts["train"]
        # batch_size=None: the order serves whole batches, which one indexing fetches.
        return DataLoader(TensorDataset(part.x, part.y), sampler=self.order, batch_size=None)

    def test_dataloader(self) -> DataLoader:
        """Serve the test part."""
        part = self.parts["test"]
        return DataLoader(TensorDataset(part.x, part.y), batch_size=len(part.y))

    def state_dict(self) -> dict[str, Any]:
        """Keep the digests of the order in checkpoints."""
        return {"served": dict(self.order.served)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's digests."""
        self.order.served = dict(state_dict["served"])


def split(strata: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Deal the rows out to the three parts, each stratum in proportion."""
    # A quarter of what the test part leaves is a fifth of the whole.
    rows, test = train_test_split(np.arange(len(strata)), test_size=0.2, stratify=strata, random_state=seed)
    train, validation = train_test_split(rows, test_size=0.25, stratify=strata[rows], random_state=seed)
    return {"train": np.array(train), "validation": np.array(validation), "test": np.array(test)}


def standardize(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Shift and scale each column to mean 0 and deviation 1 over the training rows.

    A column that is constant there is only shifted.
    """
    mean, deviation = values[train].mean(axis=0), values[train].std(axis=0)
    return (values - mean) / np.where(deviation > 0, deviation, 1)
