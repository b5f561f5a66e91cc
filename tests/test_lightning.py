"""DescentMixin: the same trajectories under Lightning, its guards, its log and its checkpoints."""

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.sequential_sgd import (
    GROUP_SIZES,
    LOADERS,
    SETTINGS,
    N,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    reference,
)
from torch_backprop.lightning import DescentMixin

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
]


class Classifier(DescentMixin, LightningModule):
    def __init__(self, variant: str, **settings):
        super().__init__()
        self.model = make_model()
        self.optimizer = make_optimizer(variant, self.model.parameters(), **settings)
        self.trajectory: list[Tensor] = record(self.optimizer, self.model)

    def configure_optimizers(self):
        return self.optimizer

    def training_step(self, batch, batch_idx):
        x, y = self.take(*batch)
        return nn.functional.cross_entropy(self.model(x), y)


class ManualClassifier(Classifier):
    def __init__(self, variant: str, **settings):
        super().__init__(variant, **settings)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        def closure():
            loss = Classifier.training_step(self, batch, batch_idx)
            self.manual_backward(loss)
            return loss

        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer.step(closure)


def loader(size: int) -> DataLoader:
    return DataLoader(TensorDataset(*make_data()), batch_size=size)


def make_trainer(**settings) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults = {**quiet, "enable_model_summary": False, "accelerator": "cpu", "max_epochs": 2}
    return Trainer(**{**defaults, **settings})


@pytest.mark.parametrize("size", LOADERS)
@pytest.mark.parametrize("variant", GROUP_SIZES)
@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
def test_every_update_equals_sequential_sgd(module, variant, size):
    for settings in ({}, SETTINGS["all"]):
        classifier = module(variant, **settings)
        make_trainer().fit(classifier, loader(size))
        assert difference(classifier.trajectory, reference(variant, **settings)) < 1e-12
        assert classifier.optimizer.examples_seen == 2 * N
