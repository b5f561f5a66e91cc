"""Under Lightning too: weights, masks, parameter groups, and an lr of any form."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.sequential_sgd import (
    GROUP_SIZES,
    LR,
    difference,
    make_data,
    make_model,
    make_optimizer,
    record,
    sequential,
)
from tests.test_lightning import Classifier, ManualClassifier, loader, make_trainer
from tests.test_optim_rows import make_weights, weighted_cost, weighted_reference

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
]


class Weighted(Classifier):
    def training_step(self, batch, batch_idx):
        x, y, w = self.take(*batch, weight=batch[-1])
        return weighted_cost(self.model, x, y, w)


class WeightedByHand(Weighted, ManualClassifier):
    def training_step(self, batch, batch_idx):
        def closure():
            loss = Weighted.training_step(self, batch, batch_idx)
            self.manual_backward(loss)
            return loss

        return self.optimizers().step(closure)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]


@pytest.mark.parametrize("size", [1, 29])
@pytest.mark.parametrize("variant", GROUP_SIZES)
@pytest.mark.parametrize("module", [Weighted, WeightedByHand])
def test_weights_and_masked_groups(module, variant, size):
    classifier = module(variant, momentum=0.9, weight_decay=0.1)
    data = TensorDataset(*make_data(), make_weights())
    make_trainer(max_epochs=1).fit(classifier, DataLoader(data, batch_size=size))
    assert difference(classifier.trajectory, weighted_reference(variant)) < 1e-12


SETTINGS_OF_GROUPS = (
    ({"lr": torch.tensor(LR, dtype=torch.float64)}, {"weight_decay": 0.1, "maximize": True}),
    ({"lr": lambda update: LR}, {"momentum": 0.5, "dampening": 0.2}),
)


@pytest.mark.parametrize("settings", SETTINGS_OF_GROUPS)
@pytest.mark.parametrize("variant", GROUP_SIZES)
@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
def test_parameter_groups_and_forms_of_lr(module, variant, settings):
    lr, more = settings
    classifier, twin = module(variant), make_model()
    first, last = classifier.model[0].parameters(), classifier.model[2].parameters()
    classifier.optimizer = make_optimizer(variant, [{"params": first}, {"params": last, **more}], **lr)
    classifier.trajectory = record(classifier.optimizer, classifier.model)
    make_trainer().fit(classifier, loader(29))
    groups = [{"params": twin[0].parameters()}, {"params": twin[2].parameters(), **more}]
    expected = sequential(variant, twin, torch.optim.SGD(groups, LR))
    assert difference(classifier.trajectory, expected) < 1e-12
