"""Times a training step through the framework against a bare loop over the same parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn import functional

from parcnet_train.benchmarks.timing import Timing, wait_for
from parcnet_train.build import (
    Config,
    build_callbacks,
    build_data,
    build_loggers,
    build_task,
    build_trainer,
)
from parcnet_train.errors import ConfigError

WARM_UP = 3  # steps that are not counted
BARE = "bare"


class Alternate(Callback):
    """Runs a bare step in front of every step of a training, and takes both times.

    A step of the training lasts from here to here: all callbacks, the loader and the loggers are in
    it.

    Args:
        bare_step: to run.
    """

    def __init__(self, bare_step: Callable[[], None]) -> None:
        self.bare_step = bare_step
        self.began: float | None = None
        self.bare: list[float] = []  # milliseconds, like the next
        self.trained: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ends one step of the training and begins the next, a bare one between them."""
        wait_for(pl_module.device)
        ended = time.perf_counter()
        if self.began is not None:
            self.trained.append(1e3 * (ended - self.began))
            self.bare.append(self._time_bare_step(pl_module.device))
        self.began = time.perf_counter()

    def _time_bare_step(self, device: torch.device) -> float:
        began = time.perf_counter()
        self.bare_step()
        wait_for(device)
        return 1e3 * (time.perf_counter() - began)


def time_overhead(config: Config, device: torch.device) -> dict[str, dict[str, Timing]]:
    """Times both, with the recipe's EMA and without it, which the bare loop never has.

    Args:
        config: the whole configuration; its data are read, `benchmark.repeats` steps are counted.
        device: where to.

    Returns:
        By `framework` and `framework_ema`: the timings of that and of the bare loop.
    """
    timings = {}
    for name, ema in (("framework", None), ("framework_ema", config["recipe"]["ema"])):
        recipe = {**config["recipe"], "ema": ema}
        alternate = train({**config, "recipe": recipe}, device)
        timings[name] = {
            BARE: Timing(tuple(alternate.bare[WARM_UP:])),
            name: Timing(tuple(alternate.trained[WARM_UP:])),
        }
    return timings


def train(config: Config, device: torch.device) -> Alternate:
    """One short training with everything that `action=fit` has."""
    trainer_settings = {
        **config["trainer"],
        "limit_train_batches": config["benchmark"]["repeats"] + WARM_UP + 1,
        "limit_val_batches": 1,
        "accumulate_grad_batches": 1,
        "precision": "32-true",
        "devices": 1,  # the bare loop has one
        "num_nodes": 1,
    }
    config = {**config, "trainer": trainer_settings}
    data = build_data(config)
    data.setup("fit")
    refuse_too_many(config["benchmark"]["repeats"], len(data.train_dataloader()))
    task = build_task(config, len(data.class_names))
    alternate = Alternate(bare_step(config, data, device))
    callbacks = [alternate, *build_callbacks(config, task, {})]
    build_trainer(config, callbacks, build_loggers(config), epochs=1).fit(task, data)
    return alternate


def refuse_too_many(repeats: int, batches: int) -> None:
    """Refuses to count more steps than an epoch has.

    Raises:
        ConfigError: where that is asked for.
    """
    most = batches - WARM_UP - 1
    if repeats > most:
        raise ConfigError(
            f"benchmark.repeats={repeats}: the training set has {batches} batches, {WARM_UP} "
            f"to warm up and one to end; allowed are 1 to {most}. Lower recipe.batch_size for more"
        )


def bare_step(config: Config, data: Any, device: torch.device) -> Callable[[], None]:
    """A function that trains a network of its own for one batch of a loader of its own."""
    task = build_task(config, len(data.class_names))
    network: nn.Module = task.model.to(device).train()
    optimizer = task.make_optimizer(task.model)
    batches = iter(data.train_dataloader())
    smoothing = config["recipe"]["label_smoothing"]

    def step() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        logits = network(batch.images.to(device))
        loss = functional.cross_entropy(logits, batch.labels.to(device), label_smoothing=smoothing)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def results_of(timings: dict[str, dict[str, Timing]]) -> Iterator[tuple[str, float]]:
    """Keys and values for `results.json`; `ratio` is bare time over the framework's."""
    for name, pair in timings.items():
        for variant, timing in pair.items():
            for key, value in timing.results(pair[BARE]).items():
                yield f"overhead/{name}/{variant}/{key}", value
