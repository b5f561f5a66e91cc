"""The callbacks, LightningCLI, and options of the optimizers that need Lightning's help."""

import sys
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torchmetrics import SumMetric

from tests.sequential_sgd import LR, N, difference, make_data, make_model, record, sequential, snapshot
from tests.test_lightning import Classifier, ManualClassifier, loader, make_trainer
from torch_backprop.lightning import DescentMixin, GradientFlow, StopWhenConverged
from torch_backprop.optim import BatchGD, Descent, MiniBatchGD, StochasticGD

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    # Of Lightning's own calls of jsonargparse.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


class Plain(DescentMixin, LightningModule):
    """Without an optimizer of its own, for LightningCLI."""

    def __init__(self):
        super().__init__()
        self.model = make_model()

    def training_step(self, batch, batch_idx):
        x, y = self.take(*batch)
        return nn.functional.cross_entropy(self.model(x), y)

    def train_dataloader(self):
        return loader(29)


CLASSES = {
    "BatchGD": (["--optimizer.line_search", "armijo", "--optimizer.tol", "1e-3"], BatchGD, 2),
    "StochasticGD": (
        ["--optimizer.schedule", "invscaling", "--optimizer.average", "true"],
        StochasticGD,
        2 * N,
    ),
    "MiniBatchGD": (["--optimizer.batch_size", "20", "--optimizer.momentum", "0.9"], MiniBatchGD, 8),
}


@pytest.mark.parametrize("name", CLASSES)
def test_lightning_cli_offers_the_classes_by_name(name, tmp_path, monkeypatch):
    arguments, kind, updates = CLASSES[name]
    trainer = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    more = ["--optimizer", name, "--optimizer.lr", "0.01", *arguments]
    settings = {
        **trainer,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "default_root_dir": str(tmp_path),
    }
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", *more])
    cli = LightningCLI(Plain, trainer_defaults=settings, seed_everything_default=False)
    (optimizer,) = cli.trainer.optimizers
    assert type(optimizer) is kind
    assert isinstance(optimizer, Descent)
    assert (optimizer.updates, optimizer.examples_seen) == (updates, 2 * N)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["optimizer"]
    assert written["class_path"] == f"torch_backprop.optim.{name}"
    assert written["init_args"]["lr"] == 0.01


def test_lightning_cli_names_a_bad_setting(monkeypatch, capsys):
    given = ["train.py", "--optimizer", "MiniBatchGD", "--optimizer.lr", "0.1", "--optimizer.batch_size"]
    monkeypatch.setattr(sys, "argv", [*given, "8", "--optimizer.batches", "3"])
    with pytest.raises(SystemExit):
        LightningCLI(Plain, run=False, seed_everything_default=False)
    assert "batches" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*given, "0"])
    with pytest.raises(ValueError, match="batch_size=0 is not possible"):
        LightningCLI(Plain, run=False, seed_everything_default=False)


class Remembered(DummyLogger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.entries: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics, step):
        self.entries.append((step, dict(metrics)))


@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
def test_stop_when_converged(module):
    classifier = module("batch", tol=1e-3, n_iter_no_change=2)
    trainer = make_trainer(max_epochs=1000, callbacks=[StopWhenConverged()])
    trainer.fit(classifier, loader(29))
    assert classifier.optimizer.converged
    assert trainer.current_epoch == classifier.optimizer.updates < 1000


def test_stop_when_converged_refuses_who_cannot_tell():
    for variant in ("minibatch", "stochastic"):
        with pytest.raises(TypeError, match=r"StopWhenConverged needs .* use BatchGD, or StochasticGD"):
            make_trainer(callbacks=[StopWhenConverged()]).fit(Classifier(variant), loader(29))
    make_trainer(callbacks=[StopWhenConverged()]).fit(
        Classifier("stochastic", schedule="adaptive"), loader(29)
    )


def test_gradient_flow_logs_norms_and_ratios():
    logger, classifier = Remembered(), Classifier("minibatch", momentum=0.5)
    make_trainer(logger=logger, callbacks=[GradientFlow(4)], max_epochs=1, log_every_n_steps=1).fit(
        classifier, loader(29)
    )
    entries = [(step, entry) for step, entry in logger.entries if "gradient_norm/model.0" in entry]
    assert [step for step, _ in entries] == [4, 8]
    twin, (x, y) = make_model(), make_data()
    sgd = torch.optim.SGD(twin.parameters(), LR, momentum=0.5)
    before = snapshot(twin[0])
    for rows, classes in zip(x[:32].split(8), y[:32].split(8), strict=True):
        before = snapshot(twin[0])
        sgd.zero_grad()
        nn.functional.cross_entropy(twin(rows), classes).backward()
        sgd.step()
    norm = nn.utils.get_total_norm(
        [theta.grad for theta in twin[0].parameters() if theta.grad is not None]
    ).item()
    assert entries[0][1] == pytest.approx(
        {**entries[0][1], "gradient_norm/model.0": norm, "update_ratio/model.0": _ratio(before, twin[0])}
    )
    assert set(entries[0][1]) == {
        f"{kind}/model.{index}" for kind in ("gradient_norm", "update_ratio") for index in (0, 2)
    }
    assert not classifier.optimizer._update_pre_hooks


class Interrupt(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        raise ZeroDivisionError


def test_a_fit_that_was_interrupted_leaves_no_hooks_to_the_next():
    classifier, flow, passes = Classifier("minibatch"), GradientFlow(4), []
    with pytest.raises(ZeroDivisionError):
        make_trainer(callbacks=[flow, Interrupt()]).fit(classifier, loader(29))
    classifier.optimizer.end_epoch = lambda: passes.append(1)
    make_trainer(callbacks=[flow], max_epochs=1).fit(classifier, loader(29))
    assert len(passes) == 1
    assert not classifier.optimizer._update_pre_hooks


def _ratio(before, layer) -> float:
    return ((snapshot(layer) - before).norm() / before.norm()).item()


def test_gradient_flow_refuses_a_bad_interval():
    with pytest.raises(ValueError, match="every=0"):
        GradientFlow(0)


class Logged(Classifier):
    """Logs its cost, and counts the rows in a metric."""

    def __init__(self, variant, **settings):
        super().__init__(variant, **settings)
        self.rows = SumMetric()

    def training_step(self, batch, batch_idx):
        x, y = self.take(*batch)
        cost = nn.functional.cross_entropy(self.model(x), y)
        self.log("cost", cost, on_epoch=True, on_step=False, batch_size=len(x))
        self.log_dict({"size": float(len(x))}, on_epoch=True, on_step=False, reduce_fx="sum")
        self.rows.update(len(x))
        self.log("rows", self.rows, on_epoch=True, on_step=False)
        return cost


@pytest.mark.parametrize("module", [Classifier, ManualClassifier])
def test_line_search_under_lightning(module):
    classifier, model = module("batch", lr=30.0, line_search="armijo"), make_model()
    make_trainer(max_epochs=5).fit(classifier, loader(29))
    optimizer = BatchGD(model.parameters(), 30.0, line_search="armijo")
    trajectory = record(optimizer, model)
    for _ in range(5):
        for batch in optimizer.epoch(loader(29)):
            optimizer.step(lambda x, y: nn.functional.cross_entropy(model(x), y), *batch)
    assert difference(classifier.trajectory, trajectory) < 1e-12
    assert optimizer._search.last < 0.5


TWICE = {
    "batch": {"lr": 30.0, "line_search": "armijo"},
    "stochastic": {"lr": 1e-9, "variance_reduction": "svrg", "inner_passes": 1},
}


@pytest.mark.parametrize("variant", TWICE)
def test_what_runs_twice_is_logged_once(variant):
    (x, y), classifier = make_data(), Logged(variant, **TWICE[variant])
    before = nn.functional.cross_entropy(classifier.model(x), y).item()
    trainer = make_trainer(max_epochs=1 if variant == "batch" else 2)
    trainer.fit(classifier, loader(29))
    assert trainer.callback_metrics["cost"].item() == pytest.approx(before, rel=1e-6)
    assert trainer.callback_metrics["rows"] == trainer.callback_metrics["size"] == N
    assert "log" not in vars(classifier)


def test_svrg_under_lightning():
    settings: dict[str, Any] = {"variance_reduction": "svrg", "inner_passes": 1}
    classifier, model = Classifier("stochastic", **settings), make_model()
    make_trainer(max_epochs=4).fit(classifier, loader(29))
    optimizer = StochasticGD(model.parameters(), LR, **settings)
    trajectory = record(optimizer, model)
    for _ in range(4):
        for batch in optimizer.epoch(loader(11)):
            optimizer.step(lambda x, y: nn.functional.cross_entropy(model(x), y), *batch)
    assert difference(classifier.trajectory, trajectory) < 1e-12


class Scheduled(Classifier):
    def configure_optimizers(self):
        schedule = StepLR(self.optimizer, 3, 0.5)
        self.optimizer.register_update_hook(lambda _: schedule.step())
        return self.optimizer


def test_a_scheduler_that_steps_after_each_update():
    classifier, twin = Scheduled("minibatch"), make_model()
    make_trainer().fit(classifier, loader(29))
    sgd = torch.optim.SGD(twin.parameters(), LR)
    schedule = StepLR(sgd, 3, 0.5)
    assert difference(classifier.trajectory, sequential("minibatch", twin, sgd, after=schedule.step)) < 1e-12
