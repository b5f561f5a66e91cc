"""The data module: one set in three parts, standardized, and served in one recorded order."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from experiments.data.image import CLASSES, images
from experiments.data.source import PARTS, Source, check, subset
from experiments.data.table import openml, shipped
from experiments.data.text import windows
from torch_backprop.optim.processes import place

# Large enough that Lightning's cost of a step is small change, small enough to show progress.
LOADER_ROWS = 256
SCORES = {"classes": "test accuracy", "values": "test R²", "text": "test accuracy"}


@dataclass(frozen=True)
class Part:
    """Some examples: x of shape (N, *shape); y of (N) classes, (N, 1) values or (N, T) characters."""

    x: Tensor
    y: Tensor


class Order:
    """The order of the examples in each epoch, a function of seed and epoch alone.

    It serves a list of rows for each loader batch, and keeps a digest of each that it has served from.

    Attributes:
        limit: Examples to be served at most in all epochs together, if there is a limit.
    """

    def __init__(self, examples: int, rows: int, seed: int) -> None:
        self.examples, self.rows, self.seed = examples, rows, seed
        self.epoch = 0
        self.limit: int | None = None
        self.served: dict[int, str] = {}

    def begin(self, seed: int, limit: int | None) -> None:
        """Forget what has been served, for another training."""
        self.seed, self.limit, self.epoch, self.served = seed, limit, 0, {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self._now() // self.rows)

    def __iter__(self) -> Iterator[list[int]]:
        # Not torch's global generator: what else draws from that must not change the order.
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.examples)
        self.served[self.epoch] = sha256(order.astype("<i8").tobytes()).hexdigest()[:12]
        order = order[: self._now()]
        # Several processes take turns, so that the optimizer can put their rows back into the order.
        rank, processes = place()
        for first in range(0, len(order), self.rows):
            yield order[first : first + self.rows][rank::processes].tolist()

    def _now(self) -> int:
        if self.limit is None:
            return self.examples
        return min(self.examples, max(0, self.limit - self.epoch * self.examples))


class Data(LightningDataModule):
    """A data set in three parts: 60 per cent to train, 20 to validate, 20 to test.

    Each part holds every class, or every tenth of a regression's target, in the same proportion; those of a
    text follow one another in it. Means and deviations come from the training part alone.

    Args:
        name: digits, breast_cancer, wine, iris, diabetes, serum (two columns of diabetes), mnist, cifar10,
            openml:NAME, text or text:FILE.
        examples: Rows at most, of a set that does not ship with scikit-learn.
        context: Characters in one example of a text.
        seed: Of the split, and of the order unless `order_seed` is given.
        order_seed: Of the order.

    Attributes:
        shape: Of one input.
        outputs: Number of classes or characters, 1 for a regression.
        kind: "classes", "values" or "text".
        parts: "train", "validation" and "test".

    Raises:
        DataError: If the data cannot be had or used.
    """

    def __init__(
        self,
        name: str = "digits",
        examples: int = 1500,
        context: int = 32,
        seed: int = 0,
        order_seed: int | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        source = load(name, examples, context, seed)
        self.kind, self.outputs = source.kind, source.outputs
        self.regression, self.score = self.kind == "values", SCORES[self.kind]
        self.rows = split(source, seed)
        train, x, y = self.rows["train"], source.x, source.y
        # A target in its own units would leave no learning rate in common with the other data sets.
        y = standardize(y[:, None], train) if self.regression else y
        x = x if self.kind == "text" else standardize(x, train)
        values = torch.tensor(x, dtype=torch.int64 if self.kind == "text" else torch.float32)
        targets = torch.tensor(y, dtype=torch.float32 if self.regression else torch.int64)
        self.parts = {part: Part(values[rows], targets[rows]) for part, rows in self.rows.items()}
        self.shape = tuple(x.shape[1:])
        self.order = Order(len(train), LOADER_ROWS, seed if order_seed is None else order_seed)

    def train_dataloader(self) -> DataLoader:
        """Serve the training part in the recorded order."""
        part = self.parts["train"]
        # batch_size=None: the order serves whole batches, which one indexing fetches.
        return DataLoader(TensorDataset(part.x, part.y), sampler=self.order, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Serve the validation part."""
        return self._whole("validation")

    def test_dataloader(self) -> DataLoader:
        """Serve the test part."""
        return self._whole("test")

    def double(self) -> "Data":
        """Turn what is no class or character into float64."""
        self.parts = {
            name: Part(
                *(values.double() if values.is_floating_point() else values for values in (part.x, part.y))
            )
            for name, part in self.parts.items()
        }
        return self

    def state_dict(self) -> dict[str, Any]:
        """Keep the digests of the order in checkpoints."""
        return {"served": dict(self.order.served)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's digests."""
        self.order.served = dict(state_dict["served"])

    def _whole(self, name: str) -> DataLoader:
        part = self.parts[name]
        return DataLoader(TensorDataset(part.x, part.y), batch_size=len(part.y))


def load(name: str, examples: int, context: int, seed: int) -> Source:
    """Return a set by its name, checked, and of many rows some."""
    kind, _, rest = name.partition(":")
    if kind == "text":
        source = subset(windows(rest, context), examples, seed)
    elif kind == "openml":
        source = subset(openml(rest), examples, seed)
    else:
        source = subset(images(name), examples, seed) if name in CLASSES else shipped(name)
    check(name, source)
    return source


def split(source: Source, seed: int) -> dict[str, np.ndarray]:
    """Deal the rows out to the three parts, each stratum in proportion; a text is cut where it stands."""
    rows = np.arange(len(source.y))
    if source.kind == "text":
        cuts = np.split(rows, [len(rows) * 6 // 10, len(rows) * 8 // 10])
        return dict(zip(PARTS, cuts, strict=True))
    strata = source.y
    if source.kind == "values":
        # Tenths, or of few rows so many parts that each has rows for all three.
        inner = np.linspace(0, 1, min(10, len(rows) // 10) + 1)[1:-1]
        strata = np.digitize(source.y, np.quantile(source.y, inner))
    # A quarter of what the test part leaves is a fifth of the whole.
    rows, test = train_test_split(rows, test_size=0.2, stratify=strata, random_state=seed)
    train, validation = train_test_split(rows, test_size=0.25, stratify=strata[rows], random_state=seed)
    return {"train": np.array(train), "validation": np.array(validation), "test": np.array(test)}


def standardize(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Shift and scale each column to mean 0 and deviation 1 over the training rows.

    A column that is constant there is only shifted.
    """
    mean, deviation = values[train].mean(axis=0), values[train].std(axis=0)
    return (values - mean) / np.where(deviation > 0, deviation, 1)
