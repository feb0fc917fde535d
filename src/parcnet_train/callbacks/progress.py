"""What a training tells of itself while it runs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from torch import Tensor
from torch.optim import Optimizer

from parcnet_train.callbacks.averaging import raw_metric
from parcnet_train.distributed.collectives import mean
from parcnet_train.files import to_json, write_whole
from parcnet_train.terminal import Pulse

log = logging.getLogger(__name__)

IMAGES_PER_SECOND = "train/images_per_second"
WRITING_SECONDS = 5.0  # between two states of progress.json within an epoch


class ProgressBar(TQDMProgressBar):
    """Progress of the epoch in one line: time left, loss, learning rate, images per second."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Short names, and no version number of a logger."""
        shown = {"loss": "train/loss_step", "lr": "train/lr", "images/s": IMAGES_PER_SECOND}
        rows = (each.row for each in trainer.callbacks if isinstance(each, Progress))  # type: ignore[attr-defined]
        row = next(rows, {})
        return {name: f"{row[key]:.4g}" for name, key in shown.items() if key in row}


class EveryMinute(Callback):
    """Logs a line a minute within epochs and evaluations: what the bar shows in a terminal."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.evaluation = Pulse()
        self.images = 0  # of the evaluation

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins the first minute."""
        self.pulse = Pulse()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Logs the first process's loss, since processes look at different moments."""
        if not trainer.is_global_zero or not self.pulse.is_due():
            return
        of_run = next(each for each in trainer.callbacks if isinstance(each, Progress))  # type: ignore[attr-defined]
        share = (batch_idx + 1) / trainer.num_training_batches
        log.info(
            "epoch %d/%s, batch %d/%s, step %d: loss %.4f, %.3g images/s, %s left",
            *(trainer.current_epoch + 1, trainer.max_epochs),
            *(batch_idx + 1, trainer.num_training_batches, trainer.global_step),
            *(float(of_run.loss), of_run.pace()),
            timedelta(
                seconds=round(of_run.seconds_left(trainer, trainer.current_epoch + share) or 0)
            ),
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the evaluation."""
        self.evaluation, self.images = Pulse(), 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Logs how far the evaluation is."""
        self.images += len(batch.images) * trainer.world_size
        if not trainer.is_global_zero or not self.evaluation.is_due():
            return
        count = sum(trainer.num_val_batches)
        pace = self.evaluation.pace(self.images, self.images * count / (batch_idx + 1))
        log.info("validation: batch %d/%s, %s", batch_idx + 1, count, pace)


def learning_rate(optimizer: Optimizer) -> float:
    """As configured, before a group of parameters scales it."""
    group = optimizer.param_groups[-1]
    return group["lr"] / group.get("lr_scale", 1.0)


class Progress(Callback):
    """Logs loss, learning rate and images per second, and writes one line per epoch.

    The same goes to a file, for whoever watches the run from outside: `epoch`, those that are done,
    a fraction within one, of `epochs`; `value`, the newest one of `metric`; `seconds_left`. What is
    not known yet is null.

    It logs within a step, not behind it as Lightning does: what a checkpoint has behind it is
    logged when the checkpoint is written.

    Args:
        every_n_steps: optimizer steps between two rows of the loggers.
        file: written by the first process.
    """

    def __init__(self, every_n_steps: int, file: Path) -> None:
        self.every_n_steps = every_n_steps
        self.file = file
        self.written = 0.0  # when
        self.value: float | None = None  # of the monitored metric
        self.row: dict[str, float] = {}  # the newest one
        self.loss = torch.tensor(math.nan)  # of the newest step: the mean of its images
        self.parts: list[Tensor] = []  # of the loss of the step under way, one a batch
        self.images = 0
        self.started = 0.0
        self.paused = 0.0  # when the newest validation began
        self.began = (0.0, 0.0)  # epochs done and time at the start of this process

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the run, also in the middle of an epoch."""
        epoch, batch = trainer.datamodule.begin  # type: ignore[attr-defined]
        self.began = epoch + batch / trainer.num_training_batches, time.perf_counter()
        self._start_epoch()
        self._write(trainer, self.began[0])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.images = 0
        self.started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Counts images, of all processes, and logs a row where it is time to."""
        # Lightning's is divided by `accumulate_grad_batches`, which the weight makes good.
        self.parts.append(outputs["loss"] * pl_module.batch_weight)
        self.images += len(batch.images) * trainer.world_size
        if time.perf_counter() > self.written + WRITING_SECONDS:
            share = (batch_idx + 1) / trainer.num_training_batches
            self._write(trainer, trainer.current_epoch + share)
        step = trainer.global_step
        if trainer.fit_loop._should_accumulate():
            return
        self.loss, self.parts = torch.stack(self.parts).sum(), []
        if step % self.every_n_steps:
            return
        self.row = self._row(trainer)
        for logger in trainer.loggers:
            logger.log_metrics({**self.row, "epoch": trainer.current_epoch}, step - 1)

    def _row(self, trainer: pl.Trainer) -> dict[str, float]:
        return {
            "train/loss_step": mean(self.loss).item(),
            "train/lr": learning_rate(trainer.optimizers[0]),
            IMAGES_PER_SECOND: self.pace(),
        }

    def pace(self) -> float:
        """Images per second of this epoch, of all processes."""
        return self.images / (time.perf_counter() - self.started)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the pace for the results, also of an epoch without validation."""
        if self.images or not self.row:
            self.row = self._row(trainer)
        pl_module.log(IMAGES_PER_SECOND, self.row[IMAGES_PER_SECOND], logger=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the numbers of the newest step, before validation takes its time."""
        self.row = self._row(trainer)
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the line of the epoch, or of its part so far."""
        self.started += time.perf_counter() - self.paused
        ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        done = trainer.current_epoch + ready / trainer.num_training_batches
        value = float(trainer.callback_metrics[pl_module.monitor])  # type: ignore[index]  # of a `Task`
        self.value = value if math.isfinite(value) else None
        self._write(trainer, done)
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        of_task: Sequence[str] = pl_module.shown  # type: ignore[assignment]  # of a `Task`
        names = [*of_task, raw_metric(pl_module.monitor)]  # type: ignore[arg-type]
        names = [name for name in names if name in metrics]
        names += ["val/skipped"] if metrics.get("val/skipped") else []
        shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in names)
        log.info(
            "epoch %s/%s: last loss %.4f, %s, lr %.2e, %.0f images/s, %s left",
            f"{done:.4g}",
            trainer.max_epochs,
            self.row["train/loss_step"],
            shown,
            self.row["train/lr"],
            self.row[IMAGES_PER_SECOND],
            timedelta(seconds=round(self.seconds_left(trainer, done) or 0)),
        )

    def seconds_left(self, trainer: pl.Trainer, done: float) -> float | None:
        """Seconds until the last epoch, at the pace of this process; None before it has one.

        Args:
            trainer: of the run.
            done: epochs, also those of earlier processes.
        """
        assert trainer.max_epochs is not None
        epochs, started = self.began
        if done == epochs:
            return None
        return (trainer.max_epochs - done) / (done - epochs) * (time.perf_counter() - started)

    def _write(self, trainer: pl.Trainer, done: float) -> None:
        self.written = time.perf_counter()
        if not trainer.is_global_zero:
            return
        metric = trainer.lightning_module.monitor
        told = {
            **{"epoch": done, "epochs": trainer.max_epochs, "metric": metric},
            "value": self.value,
            "seconds_left": self.seconds_left(trainer, done),
        }
        write_whole(self.file, to_json(told))
