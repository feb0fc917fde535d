"""What all tasks share: a model, its optimizer, and the schedule of the learning rate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim import Optimizer

from parcnet_train.collectives import total
from parcnet_train.data.samplers import TrainBatches
from parcnet_train.metrics import loss_and_skipped
from parcnet_train.model import Model
from parcnet_train.schedule import Position

log = logging.getLogger(__name__)

OptimizerFactory = Callable[[Model], Optimizer]
Schedule = Callable[..., float]


class Task(pl.LightningModule):
    """Base of the tasks; `monitor` names the metric that chooses the best epoch, `mode` its sense.

    `shown` are the metrics that the line of an epoch has.

    A task updates `train_metrics`, whose values are logged at the end of an epoch, and whose states
    are whole numbers or counts, so that their sum over processes is exact.

    Args:
        model: backbone and head.
        optimizer: makes an optimizer of a model.
        schedule: maps a `Position`, `max_lr` and `reference_batch` to the learning rate of a step
            of the reference batch.
        reference_batch: samples of a step for which the learning rates are given; they are
            proportional to the batch that runs (arXiv 1706.02677).
    """

    monitor: ClassVar[str]
    mode: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: Model,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        reference_batch: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.reference_batch = reference_batch
        self.train_metrics = loss_and_skipped("train/loss_epoch", "train/skipped")

    def configure_optimizers(self) -> Optimizer:
        """One optimizer over all that is trained."""
        optimizer = self.make_optimizer(self.model)
        # Kept for `on_train_start`: a resumed optimizer brings the values of the old configuration.
        self.settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        return optimizer

    @property
    def batches(self) -> TrainBatches:
        """The plan of the training."""
        loader: Any = self.trainer.train_dataloader
        return loader.batch_sampler

    @property
    def reference_share(self) -> float:
        """The batch of an optimizer step, at the base size of the images, in reference batches."""
        batch = self.batches.batch_size * self.batches.world_size
        return batch * self.trainer.accumulate_grad_batches / self.reference_batch

    def starts(self, epoch: int) -> npt.NDArray[np.int64]:
        """Samples of all processes before every batch of an epoch, and after the last."""
        batches = int(self.trainer.num_training_batches)  # fewer than planned where limited
        return self.batches.plan(epoch).starts[: batches + 1]

    def position(self, batch_idx: int) -> Position:
        """How far the training has come before a batch of the current epoch."""
        epoch, total_epochs = self.trainer.current_epoch, self.trainer.max_epochs
        assert total_epochs is not None
        starts = self.starts(epoch)
        seen, epoch_length = int(starts[batch_idx]), int(starts[-1])
        before = epoch * min(self.batches.length, epoch_length)
        return Position(before + seen, epoch + seen / epoch_length, total_epochs)

    def learning_rate(self, position: Position) -> float:
        """The learning rate of a step of the batch that runs."""
        max_lr = self.settings[0]["lr"]
        rate = self.schedule(position, max_lr=max_lr, reference_batch=self.reference_batch)
        return rate * self.reference_share

    def on_train_start(self) -> None:
        """Makes this run's configuration hold, also where a checkpoint brought other values."""
        (optimizer,) = self.trainer.optimizers
        for group, settings in zip(optimizer.param_groups, self.settings, strict=True):
            group.update(settings)
        self.warn_of_warmup()

    def warn_of_warmup(self) -> None:
        """Tells where the run is shorter than its warm-up."""
        epochs = self.trainer.max_epochs
        assert epochs is not None
        epoch_length = int(self.starts(self.trainer.current_epoch)[-1])
        samples = epochs * min(self.batches.length, epoch_length)
        half = self.learning_rate(Position(samples // 2, epochs / 2, epochs))
        end = self.learning_rate(Position(samples, epochs, epochs))
        top = self.settings[0]["lr"] * self.reference_share
        if half < end < top:
            log.warning(
                "the learning rate reaches %.1e, not %.1e: the run of %d images ends in its "
                "warm-up; shorten recipe.schedule.warmup_steps",
                end,
                top,
                samples,
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rate; batches of one optimizer step share it."""
        first = batch_idx - batch_idx % self.trainer.accumulate_grad_batches
        rate = self.learning_rate(self.position(first))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def on_train_epoch_end(self) -> None:
        """Logs the metrics of the epoch."""
        values = self.train_metrics.compute()
        self.log_dict(values, logger=False)
        # Lightning would log them behind the checkpoint of the epoch, and lose them to a kill.
        for logger in self.trainer.loggers:
            logger.log_metrics(
                {**values, "epoch": self.trainer.current_epoch}, self.trainer.global_step - 1
            )
        self.train_metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds where the training stands, and its metrics so far, of all processes."""
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        batch = 0 if progress.is_last_batch else progress.current.ready
        epoch = self.trainer.current_epoch + progress.is_last_batch
        checkpoint["position"] = {
            "epoch": epoch,
            "batch": batch,
            "samples": int(self.batches.plan(epoch).starts[batch]),
        }
        if batch:
            checkpoint["train_metrics"] = {
                name: {
                    key: total(torch.as_tensor(state)) for key, state in metric.metric_state.items()
                }
                for name, metric in self.train_metrics.items()
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on where the training stood; from its weights where EMA is off now and was on."""
        averages = any(isinstance(each, WeightAveraging) for each in self.trainer.callbacks)  # type: ignore[attr-defined]
        if not averages and "current_model_state" in checkpoint:
            checkpoint["state_dict"] = checkpoint["current_model_state"]
        position = checkpoint["position"]
        if not self.trainer.datamodule.go_on(**position):  # type: ignore[attr-defined]
            log.warning(
                "epoch %d begins again, its first %d images are seen twice: the checkpoint is from "
                "its middle, and the batches were others (devices, batch size, sizes or data)",
                position["epoch"] + 1,
                position["samples"],
            )
            begin_epoch_again(checkpoint)
        elif "train_metrics" in checkpoint and self.trainer.is_global_zero:
            for name, states in checkpoint["train_metrics"].items():
                for key, state in states.items():
                    metric = self.train_metrics[name]
                    setattr(metric, key, state.to(metric.device))


def begin_epoch_again(checkpoint: dict[str, Any]) -> None:
    """Takes the batches of an unfinished epoch out of the state of Lightning's loops."""
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    progress["current"] = dict.fromkeys(progress["current"], 0)
    # It was saved within the last step; no step of the epoch is under way now.
    progress["total"]["completed"] = progress["total"]["processed"]
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
