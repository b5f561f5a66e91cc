"""Trainer(strategy="ddp", devices=2) makes every update that one process makes."""

import logging
import os
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.processes import spawn
from tests.schedulers import schedule_updates, scheduled
from tests.sequential_sgd import GROUP_SIZES, SETTINGS, N, difference, make_data, reference, snapshot
from tests.test_lightning import Classifier, ManualClassifier, make_trainer
from torch_backprop.optim import WindowSampler


class Buffered(Classifier):
    """Has a buffer, which DistributedDataParallel would exchange in a forward pass."""

    def __init__(self, variant: str, **settings):
        super().__init__(variant, **settings)
        self.register_buffer("count", torch.zeros(()))


# The other schedulers have been tried under Lightning alone, and under DistributedDataParallel alone.
SCHEDULED: dict[str, type] = {"OneCycleLR": Classifier, "ReduceLROnPlateau": ManualClassifier}
CHOSEN: dict[type, dict[str, Any]] = {ManualClassifier: SETTINGS["all"], Buffered: {}}


def fit(
    module: Any, variant: str, sampler: Any, scheduler: str | None = None, **settings: Any
) -> tuple[list, dict[str, float]]:
    classifier = module(variant, **settings)
    if scheduler:
        schedule_updates(scheduler, classifier.optimizer)
    data = TensorDataset(*make_data())
    trainer = make_trainer(strategy="ddp", devices=2, use_distributed_sampler=False)
    trainer.fit(classifier, DataLoader(data, batch_sampler=sampler))
    logged = {key: value.item() for key, value in trainer.callback_metrics.items()}
    return classifier.trajectory, logged


def everything(rank: int, folder: str) -> dict[Any, Any]:
    # The processes are there already: this is how Lightning is told.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found: dict[Any, Any] = {}
    for variant in GROUP_SIZES:
        for module, size in ((ManualClassifier, 7), (Buffered, 10)):
            sampler = WindowSampler(N, size, "sequential")
            found[variant, module.__name__] = fit(module, variant, sampler, **CHOSEN[module])
    for name, module in SCHEDULED.items():
        found[name] = fit(module, "minibatch", WindowSampler(N, 7, "sequential"), name, momentum=0.9)[0]
    found["resumed"] = resume(rank, folder)
    found["padded"] = pad()
    return found


def resume(rank: int, folder: str) -> list[torch.Tensor]:
    """Return the ends of a run of four epochs, and of one that is broken off in the middle of the second."""
    data, ends = TensorDataset(*make_data()), []
    loader = DataLoader(data, batch_sampler=WindowSampler(N, 10, "reshuffle"))
    settings = {**SETTINGS["all"], "last": "carry"}
    for epochs, path in ((4, None), (2, None), (4, f"{folder}/half.ckpt")):
        classifier = Classifier("minibatch", **settings)
        trainer = make_trainer(strategy="ddp", devices=2, use_distributed_sampler=False, max_epochs=epochs)
        trainer.fit(classifier, loader, ckpt_path=path)
        if epochs == 2:
            trainer.save_checkpoint(f"{folder}/half.ckpt")
        ends.append(snapshot(classifier.model))
    return ends


def pad() -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = DataLoader(TensorDataset(*make_data()), batch_size=7)
        make_trainer(strategy="ddp", devices=2, max_epochs=1).fit(Classifier("minibatch"), loader)
    return [str(warning.message) for warning in caught if "DistributedSampler" in str(warning.message)]


def test_two_processes(tmp_path):
    results = spawn(everything, 2, tmp_path, str(tmp_path))
    for found in results:
        for variant in GROUP_SIZES:
            for module in ("ManualClassifier", "Buffered"):
                trajectory, logged = found[variant, module]
                settings = SETTINGS["all"] if module == "ManualClassifier" else {}
                assert difference(trajectory, reference(variant, **settings)) < 1e-12
                assert logged == {"updates": len(trajectory), "examples_seen": 2 * N}
        for name in SCHEDULED:
            assert difference(found[name], scheduled("minibatch", name)[0]) < 1e-12
        whole, half, resumed = found["resumed"]
        assert torch.equal(whole, resumed)
        assert not torch.equal(whole, half)
        assert found["padded"][0].startswith("DistributedSampler makes 68 examples of 67: set Trainer")
