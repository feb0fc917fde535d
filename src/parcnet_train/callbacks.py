"""What happens around a training step, the same for every task."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from torch import Tensor

from parcnet_train.errors import TrainingError

log = logging.getLogger(__name__)

WAY_OUT = (
    "the checkpoints written before are kept. Try a lower recipe.optimizer.lr, "
    "recipe.gradient_clip=1.0 or trainer.precision=32-true, and go on with ckpt=last"
)
IMAGES_PER_SECOND = "train/images_per_second"


class CheckpointContents(Callback):
    """Adds plain values, such as the configuration, to every checkpoint.

    Args:
        contents: numbers, strings, lists and dicts only: checkpoints are read with
            `weights_only=True`.
    """

    def __init__(self, contents: dict[str, Any]) -> None:
        self.contents = contents

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds them."""
        checkpoint.update(self.contents)


class FiniteLoss(Callback):
    """Stops at a loss that is not finite, before it can reach a checkpoint.

    Reading a loss waits for the device, so losses are read once per logging interval, and in front
    of every validation, which stands in front of every checkpoint.

    Args:
        every_n_steps: of the logging interval.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.unread: list[tuple[int, int, int, Tensor]] = []  # epoch, batch, step, is finite

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remembers whether the loss of one step is finite."""
        is_finite = outputs["loss"].detach().isfinite()
        step = trainer.fit_loop.total_batch_idx
        self.unread.append((trainer.current_epoch, batch_idx, step, is_finite))
        if len(self.unread) >= self.every_n_steps:
            self._read()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks before validation, and so before the checkpoints that follow it."""
        self._read()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at what the weights of the last step do, before they are saved."""
        if not torch.isfinite(torch.as_tensor(trainer.callback_metrics.get("val/loss", 0.0))):
            raise TrainingError(
                f"val/loss is not finite after epoch {trainer.current_epoch} (counted from 0); "
                + WAY_OUT
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks where an epoch ends without validation."""
        self._read()

    def _read(self) -> None:
        unread, self.unread = self.unread, []
        if not unread or torch.stack([is_finite for *_, is_finite in unread]).all():
            return
        epoch, batch, step = next(where for *where, is_finite in unread if not is_finite)
        raise TrainingError(
            f"the loss is not finite at step {step} (epoch {epoch}, batch {batch}, counted from "
            f"0); {WAY_OUT}"
        )


class SeedStep(Callback):
    """Seeds dropout anew in every step, from (seed, epoch, batch, rank).

    A resumed run thus draws what the run that was never stopped draws.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds torch's generators, of all devices."""
        key = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


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
        self.lr = 0.0
        self.first: tuple[int, float] | None = None  # epoch and time at the start of this process

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self.first = self.first or (trainer.current_epoch, time.perf_counter())
        self.images = 0
        self.seconds = 0.0
        self.started = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the learning rate of the step, which the schedule changes right after it."""
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

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
        pl_module.log("train/lr", self.lr, prog_bar=True)
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
        assert self.first is not None
        assert trainer.max_epochs is not None
        epoch, started = self.first
        done = trainer.current_epoch + 1 - epoch
        left = (trainer.max_epochs - trainer.current_epoch - 1) / done
        return str(timedelta(seconds=round(left * (time.perf_counter() - started))))
