"""Losses and gradients that are not finite: they stop a training, or their step is skipped."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from parcnet_train.distributed.collectives import anywhere
from parcnet_train.errors import TrainingError

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 20  # skipped steps; after more of them, the weights are taken to be at fault
WAY_OUT = (
    "the earlier checkpoints are kept. Fix: try a lower recipe.optimizer.lr, "
    "recipe.gradient_clip=1.0 or trainer.precision=32-true, and resume with ckpt=last"
)


class FiniteLoss(Callback):
    """Callback that stops the training at a loss that is not finite, before a checkpoint is saved.

    Reading a loss waits for the device, so losses are read once per logging interval, and before
    every validation and every checkpoint. Each process checks the losses of all processes.

    Args:
        every_n_steps: Number of batches in the logging interval.
        reads_steps: Whether a loss of a training step stops the training; if not, only that of a
            validation does, and weights that are not finite.
    """

    def __init__(self, every_n_steps: int, reads_steps: bool = True) -> None:
        self.every_n_steps = every_n_steps
        self.reads_steps = reads_steps
        self.unread: list[tuple[int, int, int, Tensor]] = []  # epoch, batch, step, is finite
        self.has_warned = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember whether the loss of one batch is finite."""
        if not self.reads_steps:
            return
        is_finite = outputs["loss"].detach().isfinite()
        step = trainer.fit_loop.total_batch_idx
        self.unread.append((trainer.current_epoch, batch_idx, step, is_finite))
        if len(self.unread) >= self.every_n_steps:
            self._read()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the losses before validation, and so before the checkpoints that follow it."""
        self._read()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the validation loss of the current weights before they are saved.

        A mean that is NaN had no values (`ExactMean`), which is not a divergence.
        """
        task: Any = pl_module  # a `Task`
        values = {
            name: float(trainer.callback_metrics.get(name, 0.0))
            for name in ("val/loss", task.monitor)
        }
        if math.isinf(values["val/loss"]):
            raise TrainingError(
                f"val/loss is not finite after epoch {trainer.current_epoch} (counted from 0); "
                + WAY_OUT
            )
        empty = [name for name, value in values.items() if math.isnan(value)]
        if empty and not self.has_warned:
            self.has_warned = True
            log.warning(
                "%s: the validation set has nothing to average (no readable image, no object or no "
                "labeled pixel), so there is no value; results.json will contain null%s",
                ", ".join(empty),
                ", and best.ckpt is the first validated epoch" if task.monitor in empty else "",
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the losses if an epoch ends without validation."""
        self._read()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check losses and weights, also in the middle of an epoch."""
        self._read()
        if not all(parameter.isfinite().all() for parameter in pl_module.parameters()):
            raise TrainingError(
                f"the weights are not finite after step {trainer.fit_loop.total_batch_idx} "
                f"(counted from 0); {WAY_OUT}"
            )

    def _read(self) -> None:
        unread, self.unread = self.unread, []
        if not unread:
            return
        broken = anywhere(~torch.stack([is_finite for *_, is_finite in unread])).tolist()
        if not any(broken):
            return
        epoch, batch, step, _ = unread[broken.index(True)]
        raise TrainingError(
            f"the loss is not finite at step {step} (epoch {epoch}, batch {batch}, counted from "
            f"0); {WAY_OUT}"
        )


class SkipStep(Callback):
    """Callback that skips an optimizer step whose gradient is not finite, and counts it.

    Gradients are averaged over processes, so all of them skip the same step. Weights, optimizer and
    the statistics of BatchNorm stay as they were before it. With `trainer.precision=16-mixed`, a
    step whose loss is finite is skipped by the scaling of the loss instead, and does not count.

    Looking at the gradient waits for the device in every step.
    """

    def __init__(self) -> None:
        self.count = 0  # of the whole run
        self.in_a_row = 0
        self.has_bad_loss = False
        self.buffers: list[Tensor] = []
        self.before: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps skipped so far."""
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of steps skipped so far."""
        self.count = state_dict["count"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the statistics of BatchNorm; leave losses that are not finite out of the mean."""
        task: Any = pl_module  # a `Task`
        self.buffers = [each for each in task.model.buffers() if each.is_floating_point()]
        task.train_metrics["train/loss_epoch"].leaves_out = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Copy the statistics before the first batch of a step."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.before = [each.clone() for each in self.buffers]
            self.has_bad_loss = False

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Notice a loss that is not finite, which only the scaling of the loss needs."""
        if trainer.precision == "16-mixed":
            self.has_bad_loss |= bool(anywhere(~loss.detach().isfinite()))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Remove a gradient that is not finite, so that the optimizer has nothing to do."""
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        if get_total_norm(each.grad for each in parameters if each.grad is not None).isfinite():
            self.in_a_row = 0
            return
        if trainer.precision == "16-mixed" and not self.has_bad_loss:
            return
        for each in parameters:
            each.grad = None
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)
        self.count += 1
        self.in_a_row += 1
        step = trainer.global_step
        if self.in_a_row > MOST_IN_A_ROW:
            raise TrainingError(
                f"the gradient is not finite at step {step} (counted from 0) and at the "
                f"{MOST_IN_A_ROW} steps before it; {WAY_OUT}"
            )
        log.warning(
            "step %d (counted from 0) is skipped, since its gradient is not finite; steps skipped "
            "so far: %d",
            step,
            self.count,
        )
