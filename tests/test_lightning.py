"""DescentMixin: the same trajectories under Lightning, its guards, its log and its checkpoints."""

import sys
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
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
    snapshot,
)
from torch_backprop.lightning import DescentMixin
from torch_backprop.lightning.guards import refuse_conflicts

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


class Recurrent(nn.LSTM):
    """An LSTM over sequences of one element, for rows of vectors."""

    def forward(self, x):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x[:, None])[0][:, 0]


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
    defaults: dict[str, Any] = {**quiet, "enable_model_summary": False, "accelerator": "cpu", "max_epochs": 2}
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


class Watch(Callback):
    """Keeps what Lightning reports after each loader batch."""

    def __init__(self):
        self.losses: list[Tensor] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        assert isinstance(outputs, dict)
        self.losses.append(outputs["loss"])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.logged.append({key: value.item() for key, value in trainer.callback_metrics.items()})


def test_reports_the_mean_loss_and_logs_the_counters():
    watch, plain = Watch(), make_model()
    make_trainer(callbacks=[watch], max_epochs=1).fit(Classifier("minibatch"), loader(29))
    optimizer = make_optimizer("minibatch", plain.parameters())
    cost = nn.CrossEntropyLoss()
    costs = [optimizer.step(lambda x, y: cost(plain(x), y), *batch) for batch in optimizer.epoch(loader(29))]
    torch.testing.assert_close(watch.losses, costs, rtol=0, atol=1e-12)
    assert watch.logged[1:] == [{"updates": 3, "examples_seen": 29}, {"updates": 7, "examples_seen": 58}]


class Validated(Classifier):
    def __init__(self, variant: str, **settings):
        super().__init__(variant, **settings)
        self.validated: list[Tensor] = []

    def validation_step(self, batch, batch_idx):
        self.validated.append(snapshot(self.model))


@pytest.mark.parametrize("variant", GROUP_SIZES)
def test_the_last_group_closes_before_validation(variant):
    classifier = Validated(variant)
    make_trainer(num_sanity_val_steps=0).fit(classifier, loader(29), loader(N))
    expected = reference(variant)
    assert difference(classifier.validated, [expected[len(expected) // 2 - 1], expected[-1]]) < 1e-12


def test_carry_leaves_the_group_open_between_epochs():
    classifier = Classifier("minibatch", last="carry")
    make_trainer().fit(classifier, loader(29))
    assert (classifier.optimizer.updates, classifier.optimizer.examples_seen) == (2 * N // 8, 2 * N)


class Logged(Classifier):
    def training_step(self, batch, batch_idx):
        x, y = self.take(*batch)
        cost = nn.functional.cross_entropy(self.model(x), y)
        self.log("cost", cost, on_epoch=True, on_step=False, batch_size=len(x))
        return cost


def test_log_in_training_step_averages_over_all_rows():
    classifier, (x, y) = Logged("batch"), make_data()
    expected = nn.functional.cross_entropy(classifier.model(x), y)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(classifier, loader(29))
    torch.testing.assert_close(trainer.callback_metrics["cost"].double(), expected.detach())


@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
@pytest.mark.parametrize("variant", GROUP_SIZES)
def test_resumes_from_a_checkpoint_to_the_last_bit(module, variant, tmp_path):
    whole, half, resumed = (module(variant, **SETTINGS["all"]) for _ in range(3))
    make_trainer(max_epochs=4).fit(whole, loader(29))
    trainer = make_trainer(max_epochs=2)
    trainer.fit(half, loader(29))
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    make_trainer(max_epochs=4).fit(resumed, loader(29), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(snapshot(resumed), snapshot(whole))
    assert resumed.optimizer.state_dict()["descent"].keys() == whole.optimizer.state_dict()["descent"].keys()
    assert resumed.optimizer.updates == whole.optimizer.updates


class ResumableLoader:
    """Loader batches of 29, 29 and 9 rows, from the position saved in a checkpoint on."""

    def __init__(self):
        self.data, self.position = list(loader(29)), 0

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        for position in range(self.position % len(self.data), len(self.data)):
            self.position = position + 1
            yield self.data[position]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class SaveEachBatch(Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        path = self.folder / f"{trainer.current_epoch}-{batch_idx}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)


@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
@pytest.mark.parametrize("variant", GROUP_SIZES)
def test_resumes_in_the_middle_of_an_epoch_to_the_last_bit(module, variant, tmp_path):
    whole = module(variant, **SETTINGS["all"])
    make_trainer(callbacks=[SaveEachBatch(tmp_path)]).fit(whole, ResumableLoader())
    for checkpoint in sorted(tmp_path.iterdir()):
        resumed = module(variant, **SETTINGS["all"])
        make_trainer().fit(resumed, ResumableLoader(), ckpt_path=checkpoint)
        assert torch.equal(snapshot(resumed), snapshot(whole)), checkpoint.name
        assert resumed.optimizer.updates == whole.optimizer.updates


CONFLICTS = {
    "gradient_clip_val=0.5": ({"gradient_clip_val": 0.5}, "max_norm"),
    "accumulate_grad_batches=2": ({"accumulate_grad_batches": 2}, "MiniBatchGD"),
    "callbacks=": ({"callbacks": [GradientAccumulationScheduler({1: 2})]}, "MiniBatchGD"),
    "precision='16-mixed'": (
        {"plugins": MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))},
        "bf16-mixed",
    ),
}


@pytest.mark.parametrize("argument", CONFLICTS)
def test_conflicting_trainer_arguments_are_refused(argument):
    settings, instead = CONFLICTS[argument]
    with pytest.raises(ValueError, match=rf"Trainer\({argument}.*{instead}"):
        make_trainer(**settings).fit(Classifier("minibatch"), loader(29))


@pytest.mark.parametrize(
    ("strategy", "match"),
    [(SingleDeviceStrategy("cpu"), "use 'ddp'"), (DDPStrategy(), "sync_batchnorm=True")],
)
def test_what_several_processes_cannot_have_is_refused(monkeypatch, strategy, match):
    classifier, trainer = Classifier("minibatch"), make_trainer()
    classifier.model.append(nn.SyncBatchNorm(3))
    monkeypatch.setattr(Trainer, "world_size", 2)
    monkeypatch.setattr(Trainer, "strategy", strategy)
    with pytest.raises(ValueError, match=match):
        refuse_conflicts(trainer, classifier)


class WithSGD(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_other_optimizers_are_refused():
    with pytest.raises(TypeError, match="needs exactly one BatchGD, StochasticGD or MiniBatchGD"):
        make_trainer().fit(WithSGD("batch"), loader(29))


def test_bf16_mixed_precision_works():
    classifier = Classifier("minibatch")
    classifier.float()
    data = TensorDataset(make_data()[0].float(), make_data()[1])
    make_trainer(precision="bf16-mixed").fit(classifier, DataLoader(data, batch_size=29))
    assert difference(classifier.trajectory, reference("minibatch")) < 1e-2


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(5), nn.Dropout(0.5), nn.RReLU(), Recurrent(5, 5, 2, True, True, 0.1)]
)
def test_warns_where_equality_cannot_hold(layer):
    classifier = Classifier("minibatch")
    classifier.model = nn.Sequential(layer.double(), classifier.model)
    with pytest.warns(UserWarning, match=rf"{type(layer).__name__} in training mode") as seen:
        make_trainer(max_epochs=2).fit(classifier, loader(64))
    assert len([warning for warning in seen if "trajectory" in str(warning.message)]) == 1


def test_without_lightning_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    for name in [name for name in sys.modules if name.startswith("torch_backprop.lightning")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r'pip install "torch_backprop\[lightning\]"'):
        import torch_backprop.lightning  # noqa: F401
