"""Every scheduler of torch.optim under Lightning, stepped after each update, or after each epoch."""

from typing import Any

import pytest
import torch

from tests.schedulers import SCHEDULERS, rates_of, schedule_updates, scheduled
from tests.sequential_sgd import GROUP_SIZES, LR, difference, make_model, sequential
from tests.test_lightning import Classifier, ManualClassifier, loader, make_trainer, pytestmark

__all__ = ["pytestmark"]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
def test_schedulers_step_after_each_update(module, name):
    for variant in GROUP_SIZES:
        classifier = module(variant, momentum=0.9)
        schedule_updates(name, classifier.optimizer)
        make_trainer().fit(classifier, loader(29))
        expected, rates = scheduled(variant, name)
        assert difference(classifier.trajectory, expected) < 1e-12
        assert rates_of(classifier.optimizer) == rates


class Scheduled(Classifier):
    """Leaves the scheduler to Lightning, which steps it at the end of an epoch."""

    def __init__(self, name: str):
        super().__init__("minibatch", momentum=0.9)
        self.scheduler: Any = SCHEDULERS[name](self.optimizer)

    def configure_optimizers(self) -> Any:
        return [self.optimizer], [{"scheduler": self.scheduler, "interval": "epoch", "monitor": "updates"}]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step()


@pytest.mark.filterwarnings("ignore:.*Are you sure you didn't mean 'interval'.*:RuntimeWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_lightning_steps_schedulers_after_each_epoch(name):
    classifier, twin = Scheduled(name), make_model()
    make_trainer(max_epochs=3).fit(classifier, loader(29))
    sgd = torch.optim.SGD(twin.parameters(), LR, momentum=0.9)
    scheduler: Any = SCHEDULERS[name](sgd)
    expected = []
    for _ in range(3):
        expected += sequential("minibatch", twin, sgd, epochs=1)
        scheduler.step()
    assert difference(classifier.trajectory, expected) < 1e-12
    assert rates_of(classifier.optimizer) == rates_of(sgd)
