"""What happens around a training step, the same for every task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from parcnet_train.collectives import anywhere
from parcnet_train.errors import TrainingError

WAY_OUT = (
    "the checkpoints written before are kept. Try a lower recipe.optimizer.lr, "
    "recipe.gradient_clip=1.0 or trainer.precision=32-true, and go on with ckpt=last"
)


class FiniteLoss(Callback):
    """Stops at a loss that is not finite, before it can reach a checkpoint.

    Reading a loss waits for the device, so losses are read once per logging interval, and in front
    of every validation and every checkpoint. All processes look at the losses of all.

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

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Looks at losses and weights, also in the middle of an epoch."""
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


class EpochLength(Callback):
    """Tells Lightning how many batches the epoch has that begins.

    Lightning asks a loader once, when it is made; the epochs of a multi-scale training differ.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sets every number that Lightning derived from the length of the first epoch."""
        loop, limit = trainer.fit_loop, trainer.limit_train_batches
        assert loop._combined_loader is not None
        length = len(loop._combined_loader.flattened[0])
        batches = limited(length, limit)
        loop._combined_loader.limits = [batches]
        loop.max_batches = trainer.val_check_batch = batches


def limited(batches: int, limit: float) -> int:
    """Batches of an epoch that are trained on.

    Args:
        batches: Batches that the epoch has.
        limit: Number of batches, or their share as a `float`: `trainer.limit_train_batches`.
    """
    return min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
