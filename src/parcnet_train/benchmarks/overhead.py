"""Timings of a training step in the framework and in a bare loop with the same parts."""

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
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.sections import Recipe
from parcnet_train.config.typed import section
from parcnet_train.errors import ConfigError
from parcnet_train.tasks.base import Task

WARM_UP = 3  # steps that are not counted
BARE = "bare"


class Alternate(Callback):
    """Callback that runs a bare step before every step of a training, and times both.

    A step of the training lasts from one call of this callback to the next: it includes all
    callbacks, the loader and the loggers.

    Args:
        bare_step: Function that runs a step of the bare loop.
    """

    def __init__(self, bare_step: Callable[[], None]) -> None:
        self.bare_step = bare_step
        self.began: float | None = None
        self.bare: list[float] = []  # in milliseconds, as the next list
        self.trained: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the timing of one training step, time a bare step, and start the next timing."""
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
    """Time both, without EMA and with the recipe's EMA, which the bare loop never has.

    Args:
        config: Whole configuration; its data is read, and `benchmark.repeats` steps are timed.
        device: Device to run on.

    Returns:
        For `framework` and `framework_ema`, the timings of the framework and of the bare loop.
    """
    timings = {}
    for name, ema in (("framework", None), ("framework_ema", section(Recipe, config).ema)):
        recipe = {**config["recipe"], "ema": ema}
        alternate = train({**config, "recipe": recipe}, device)
        timings[name] = {
            BARE: Timing(tuple(alternate.bare[WARM_UP:])),
            name: Timing(tuple(alternate.trained[WARM_UP:])),
        }
    return timings


def train(config: Config, device: torch.device) -> Alternate:
    """Run a short training with everything that `action=fit` has."""
    repeats = section(Benchmark, config).repeats
    trainer_settings = {
        **config["trainer"],
        "limit_train_batches": repeats + WARM_UP + 1,
        "limit_val_batches": 1,
        "accumulate_grad_batches": 1,
        "precision": "32-true",
        "devices": 1,  # as in the bare loop
        "num_nodes": 1,
    }
    config = {**config, "trainer": trainer_settings}
    data = build_data(config)
    data.setup("fit")
    refuse_too_many(repeats, len(data.train_dataloader()))
    task = build_task(config, len(data.class_names))
    bare = build_task(config, len(data.class_names))
    smoothing = section(Recipe, config).label_smoothing
    alternate = Alternate(bare_step(bare, data, smoothing, device))
    callbacks = [alternate, *build_callbacks(config, task, {})]
    build_trainer(config, callbacks, build_loggers(config), epochs=1).fit(task, data)
    return alternate


def refuse_too_many(repeats: int, batches: int) -> None:
    """Check that an epoch has enough batches for the steps to time.

    Raises:
        ConfigError: If it has not.
    """
    most = batches - WARM_UP - 1
    if repeats > most:
        raise ConfigError(
            f"benchmark.repeats={repeats}: the training set has {batches} batches, of which "
            f"{WARM_UP} warm up and one ends the run; expected 1 to {most}. Fix: lower "
            "benchmark.repeats, or recipe.batch_size for more batches"
        )


def bare_step(
    task: Task, data: Any, label_smoothing: float, device: torch.device
) -> Callable[[], None]:
    """Return a function that trains the network of a task on the next batch of its own loader."""
    network: nn.Module = task.model.to(device).train()
    optimizer = task.make_optimizer(task.model)
    batches = iter(data.train_dataloader())

    def step() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        logits = network(batch.images.to(device))
        labels = batch.labels.to(device)
        loss = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def results_of(timings: dict[str, dict[str, Timing]]) -> Iterator[tuple[str, float]]:
    """Yield the entries of `results.json`.

    `ratio` is bare time over the framework's: the median of those of neighboring steps.
    """
    for name, pair in timings.items():
        for variant, timing in pair.items():
            ratio = pair[BARE].relative_to(timing)
            for key, value in {**timing.results(pair[BARE]), "ratio": ratio}.items():
                yield f"overhead/{name}/{variant}/{key}", value
