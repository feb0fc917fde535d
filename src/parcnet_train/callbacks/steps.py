"""Callbacks around a training step, the same for every task."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

log = logging.getLogger(__name__)


class SeedStep(Callback):
    """Callback that seeds dropout anew in every step, from (seed, epoch, batch, rank).

    A resumed run thus draws the same random numbers as a run without interruption.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch's generators: of the CPU, and of all other devices if one of them trains."""
        key = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # torch.manual_seed prepares all kinds of devices, which takes a millisecond without any.
        seed_all = pl_module.device.type != "cpu"
        (torch.manual_seed if seed_all else torch.default_generator.manual_seed)(seed)


class EpochLength(Callback):
    """Callback that tells Lightning the number of batches of every epoch.

    Lightning reads the length of a loader once, when it is made, but the epochs of a multi-scale
    training differ in length. Lightning's own `max_steps` would leave an epoch unfinished, which
    could be neither saved nor resumed; here, the last epoch has fewer batches.

    Args:
        max_steps: Number of optimizer steps after which the run ends, unless its epochs end
            earlier.
    """

    def __init__(self, max_steps: int | None = None) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the end of the run, and the length of an epoch that is resumed in its middle."""
        task: Any = pl_module  # a `Task`
        if self.max_steps is not None:
            task.end_after(self.max_steps - trainer.global_step)
        self._set_length(trainer, task)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set every number that Lightning derived from the length of the first epoch."""
        self._set_length(trainer, pl_module)

    def _set_length(self, trainer: pl.Trainer, task: Any) -> None:
        loop = trainer.fit_loop
        assert loop._combined_loader is not None
        assert loop._data_fetcher is not None
        batches = task.batches_of(trainer.current_epoch)
        loop._combined_loader.limits = [batches]
        loop._data_fetcher.length = loop.max_batches = batches

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark an epoch that a callback ended early as complete."""
        trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True


class ValidationSchedule(Callback):
    """Callback that decides when to validate, in place of Lightning.

    The last step of a run is always validated. Lightning counts batches instead of optimizer steps,
    and does not validate the end of a run that is between two intervals.

    Args:
        interval: Share of an epoch between two validations, or, as an integer, optimizer steps of
            the run.
        every_n_epochs: Number of epochs from one validated epoch to the next; used only with shares
            of an epoch.
    """

    def __init__(self, interval: float, every_n_epochs: int = 1) -> None:
        self.interval = interval
        self.every_n_epochs = every_n_epochs

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Replace Lightning's check, which runs after every batch and when a run is resumed."""
        loop: Any = trainer.fit_loop.epoch_loop
        loop._should_check_val_fx = lambda _: self.is_due(trainer)

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether a validation follows the newest batch."""
        loop = trainer.fit_loop.epoch_loop
        if trainer.should_stop:
            return True
        if loop._should_accumulate():
            return False
        epochs = trainer.current_epoch + 1
        if loop._num_ready_batches_reached() and epochs == trainer.max_epochs:
            return True
        if isinstance(self.interval, int):
            return trainer.global_step % self.interval == 0
        task: Any = trainer.lightning_module
        window = trainer.accumulate_grad_batches
        steps = math.ceil(task.planned_batches(trainer.current_epoch) / window)
        done = math.ceil(loop.batch_progress.current.ready / window)
        return epochs % self.every_n_epochs == 0 and done in steps_of_shares(self.interval, steps)


def steps_of_shares(interval: float, steps: int) -> set[int]:
    """Return the steps of an epoch, counted from 1, at which another share of it is complete.

    Args:
        interval: Share of an epoch, above 0 and up to 1.
        steps: Number of optimizer steps of the epoch.
    """
    count = math.floor(1 / interval + 1e-9)
    return {max(1, round(number * interval * steps)) for number in range(1, count + 1)}


def limited(batches: int, limit: float) -> int:
    """Return the number of batches of an epoch that are trained on.

    Args:
        batches: Number of batches of the epoch.
        limit: Number of batches, or their share as a `float`: `trainer.limit_train_batches`.
    """
    return min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
