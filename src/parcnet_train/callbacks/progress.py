"""Progress of a training: the bar, log lines, loggers, and `progress.json`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor
from torch.optim import Optimizer

from parcnet_train.callbacks.averaging import raw_metric
from parcnet_train.callbacks.saving import BestCheckpoint
from parcnet_train.distributed.collectives import mean
from parcnet_train.errors import UnwritableError
from parcnet_train.files import to_json, write_whole
from parcnet_train.terminal import Pulse, duration

log = logging.getLogger(__name__)

IMAGES_PER_SECOND = "train/images_per_second"
WRITING_SECONDS = 5.0  # time between two writes of progress.json within an epoch


class ProgressBar(TQDMProgressBar):
    """Progress of a training in one line, with the most important values first.

    A terminal cuts off what it has no room for.
    """

    def init_train_tqdm(self) -> Tqdm:
        """Return a bar without the time left of the epoch; that of the run is among the values."""
        bar = super().init_train_tqdm()
        bar.bar_format = "{desc}|{bar}| {n_fmt}/{total_fmt}{postfix}"
        return bar

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count epochs from 1, as the log does."""
        super().on_train_epoch_start(trainer, *_)
        name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.train_progress_bar.set_description(name)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values that the bar shows, under short names."""
        of_run = progress_of(trainer)
        shown = (
            ("loss", "train/loss_step", ".4g"),
            (of_run.metric.removeprefix("val/"), "value", ".4f"),
            ("lr", "train/lr", ".1e"),
            ("images/s", IMAGES_PER_SECOND, ".3g"),
            ("best", "best", ".4f"),
        )
        values = {**of_run.row, "value": of_run.value, "best": of_run.best}
        known = [each for each in shown if values.get(each[1]) is not None]
        left = of_run.time_left(trainer, epochs_done(trainer))
        return {"left": left, **{name: format(values[key], form) for name, key, form in known}}


class EveryMinute(Callback):
    """A log line per minute in epochs and evaluations, with the content of the progress bar."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.evaluation = Pulse()
        self.images = 0  # images of the evaluation so far

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the first minute."""
        self.pulse = Pulse()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the loss of the first process only, since each process has a minute of its own."""
        if not trainer.is_global_zero or not self.pulse.is_due():
            return
        of_run = progress_of(trainer)
        metric = ""
        if of_run.value is not None and of_run.best is not None:
            metric = f", {of_run.metric} {of_run.value:.4f} (best {of_run.best:.4f})"
        log.info(
            "epoch %d/%s, batch %d/%s, step %d: loss %.4f, lr %.2e, %.3g images/s%s, %s left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            batch_idx + 1,
            trainer.num_training_batches,
            trainer.global_step,
            float(of_run.loss),
            learning_rate(trainer.optimizers[0]),
            of_run.pace(),
            metric,
            of_run.time_left(trainer, epochs_done(trainer)),
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the evaluation."""
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
        """Log the progress of the evaluation."""
        self.images += len(batch.images) * trainer.world_size
        if not trainer.is_global_zero or not self.evaluation.is_due():
            return
        count = sum(trainer.num_val_batches)
        pace = self.evaluation.pace(self.images, self.images * count / (batch_idx + 1))
        log.info("validation: batch %d/%s, %s", batch_idx + 1, count, pace)


def progress_of(trainer: pl.Trainer) -> Progress:
    """Return the callback of a training that knows its progress."""
    return next(each for each in trainer.callbacks if isinstance(each, Progress))  # type: ignore[attr-defined]


def learning_rate(optimizer: Optimizer) -> float:
    """Return the learning rate without the factor of a parameter group."""
    group = optimizer.param_groups[-1]
    return group["lr"] / group.get("lr_scale", 1.0)


def mean_of(parts: Sequence[tuple[Tensor, Tensor | float]]) -> Tensor:
    """Return the weighted mean of values with their weights; a single one is unchanged."""
    if len(parts) == 1:
        return parts[0][0]
    whole: Any = sum(weight for _, weight in parts)
    return torch.stack([value * (weight / whole) for value, weight in parts]).sum()


def epochs_done(trainer: pl.Trainer) -> float:
    """Return the number of finished epochs of a run, with a fraction, at the end of a batch."""
    ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return trainer.current_epoch + ready / trainer.num_training_batches


def best_saved(trainer: pl.Trainer) -> float | None:
    """Return the metric of the best checkpoint so far; None if there is none."""
    saved = (each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint))
    score = next((each.best_model_score for each in saved), None)
    return None if score is None or not math.isfinite(score) else float(score)


def compared(value: float, best: float | None, mode: str) -> str:
    """Return how the metric of an evaluation compares with the best one before, in words.

    Args:
        value: Value of the metric.
        best: Best value of earlier evaluations; None if there is none.
        mode: Direction of an improvement, `max` or `min`.
    """
    if not math.isfinite(value):
        return "not a number"
    if best is None:
        return "the first evaluation"
    if value == best:
        return f"equal to the best so far, {best:.4f}"
    is_better = value > best if mode == "max" else value < best
    word = "better" if is_better else "worse"
    return f"{word} than the best so far, {best:.4f} ({value - best:+.2g})"


class Progress(Callback):
    """Callback that logs loss, learning rate and images per second, and a line per evaluation.

    The progress is also written to a file, for programs that watch the run: `epoch` is the number
    of finished epochs, with a fraction, of `epochs`; `value` is the newest value of `metric`, and
    `best` its best one; `images_per_second` is the pace of this epoch; `seconds_left` is the time
    left. Values that are not known yet are null.

    It logs within a step, not after it as Lightning does, so that everything before a checkpoint is
    logged when the checkpoint is written.

    Args:
        every_n_steps: Number of optimizer steps between two rows of the loggers.
        file: File to which the first process writes the progress.
    """

    def __init__(self, every_n_steps: int, file: Path) -> None:
        self.every_n_steps = every_n_steps
        self.file = file
        self.written = 0.0  # time of the last write
        self.metric = ""  # name of the monitored metric
        self.value: float | None = None  # its newest value
        self.best: float | None = None
        self.row: dict[str, float] = {}  # newest row
        self.loss = torch.tensor(math.nan)  # mean loss of the images of the newest step
        self.has_warned = False
        # Loss of every batch of the current step, and its weight.
        self.parts: list[tuple[Tensor, Tensor | float]] = []
        self.images = 0
        self.started = 0.0
        self.paused = 0.0  # start of the newest validation
        self.began = (0.0, 0.0)  # epochs done and time at the start of this process

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the run, which may begin in the middle of an epoch."""
        epoch, batch = trainer.datamodule.begin  # type: ignore[attr-defined]
        self.began = epoch + batch / trainer.num_training_batches, time.perf_counter()
        self.metric, self.best = pl_module.monitor, best_saved(trainer)  # type: ignore[assignment]  # of a `Task`
        self._start_epoch()
        self._write(trainer, self.began[0])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
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
        """Count the images of all processes, and log a row if one is due."""
        task: Any = pl_module  # a `Task`
        # Lightning has divided the loss by `accumulate_grad_batches`.
        self.parts.append((outputs["loss"] * trainer.accumulate_grad_batches, task.batch_weight))
        self.images += round(task.mean_images * trainer.world_size)
        if time.perf_counter() > self.written + WRITING_SECONDS:
            self._write(trainer, epochs_done(trainer))
        step = trainer.global_step
        if trainer.fit_loop._should_accumulate():
            return
        self.loss, self.parts = mean_of(self.parts), []
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
        """Return the images per second of this epoch, over all processes."""
        return self.images / (time.perf_counter() - self.started)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the images per second for the results, even if the epoch had no validation."""
        if self.images or not self.row:
            self.row = self._row(trainer)
        pl_module.log(IMAGES_PER_SECOND, self.row[IMAGES_PER_SECOND], logger=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the values of the newest step before the validation takes time."""
        self.row = self._row(trainer)
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line of the epoch, or of the part of it that is done."""
        self.started += time.perf_counter() - self.paused
        done = epochs_done(trainer)
        value = float(trainer.callback_metrics[self.metric])
        before, mode = best_saved(trainer), str(pl_module.mode)
        self.value = value if math.isfinite(value) else None
        known = [each for each in (before, self.value) if each is not None]
        self.best = (max if mode == "max" else min)(known, default=None)
        self._write(trainer, done)
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        of_task: Sequence[str] = pl_module.shown  # type: ignore[assignment]  # of a `Task`
        names = [*of_task, raw_metric(self.metric)]
        names = [name for name in names if name in metrics]
        names += ["val/skipped"] if metrics.get("val/skipped") else []
        shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in names)
        log.info(
            "epoch %s/%s: last loss %.4f, %s, lr %.2e, %.3g images/s, %s left; %s: %s",
            f"{done:.4g}",
            trainer.max_epochs,
            self.row["train/loss_step"],
            shown,
            self.row["train/lr"],
            self.row[IMAGES_PER_SECOND],
            self.time_left(trainer, done),
            self.metric,
            compared(value, before, mode),
        )

    def time_left(self, trainer: pl.Trainer, done: float) -> str:
        """Return the time until the end of the run, as text; see `seconds_left`."""
        return duration(self.seconds_left(trainer, done) or 0)

    def seconds_left(self, trainer: pl.Trainer, done: float) -> float | None:
        """Estimate the seconds until the end of the run, at the pace of this process.

        Args:
            trainer: Trainer of the run.
            done: Number of finished epochs, including those of earlier processes.

        Returns:
            The number of seconds; None until this process has made progress.
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
        state = {
            "epoch": done,
            "epochs": trainer.max_epochs,
            "metric": self.metric,
            "value": self.value,
            "best": self.best,
            "images_per_second": self.pace() if self.images else None,
            "seconds_left": self.seconds_left(trainer, done),
        }
        try:
            write_whole(self.file, to_json(state))
        except UnwritableError as error:  # the next checkpoint decides whether the run can go on
            if not self.has_warned:
                log.warning("%s", error)
            self.has_warned = True
