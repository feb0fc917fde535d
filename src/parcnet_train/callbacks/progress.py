"""What a training tells of itself while it runs."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

log = logging.getLogger(__name__)

IMAGES_PER_SECOND = "train/images_per_second"


class ProgressBar(TQDMProgressBar):
    """Progress of the epoch in one line: time left, loss, learning rate, images per second."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Short names, and no version number of a logger."""
        shown = {"loss": "train/loss_step", "lr": "train/lr", "images/s": IMAGES_PER_SECOND}
        values = trainer.progress_bar_metrics
        return {name: f"{values[key]:.4g}" for name, key in shown.items() if key in values}


class Progress(Callback):
    """Logs learning rate and images per second, and writes one line per epoch."""

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.started = 0.0
        self.began = (0.0, 0.0)  # epochs done and time at the start of this process

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the run, also in the middle of an epoch."""
        epoch, batch = trainer.datamodule.begin  # type: ignore[attr-defined]
        self.began = epoch + batch / trainer.num_training_batches, time.perf_counter()
        self._start_epoch()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Counts images, of all devices."""
        self.images += len(batch.images) * trainer.world_size
        self.seconds = time.perf_counter() - self.started
        pl_module.log("train/lr", trainer.optimizers[0].param_groups[-1]["lr"], prog_bar=True)
        pl_module.log(IMAGES_PER_SECOND, self.images / self.seconds, prog_bar=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the line of the epoch."""
        if trainer.sanity_checking or not trainer.is_global_zero or not self.seconds:
            return
        values = trainer.callback_metrics
        shown = ", ".join(
            f"{name} {value:.4f}"
            for name, value in values.items()
            if name.startswith("val/") and not (name == "val/skipped" and value == 0)
        )
        log.info(
            "epoch %d/%s: last loss %.4f, %s, lr %.2e, %.0f images/s, %s left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            values["train/loss_step"],
            shown,
            values["train/lr"],
            values[IMAGES_PER_SECOND],
            self.time_left(trainer),
        )

    def time_left(self, trainer: pl.Trainer) -> str:
        """Hours, minutes and seconds until the last epoch, at the pace of this process."""
        assert trainer.max_epochs is not None
        epochs, started = self.began
        done = trainer.current_epoch + 1 - epochs
        left = (trainer.max_epochs - trainer.current_epoch - 1) / done
        return str(timedelta(seconds=round(left * (time.perf_counter() - started))))
