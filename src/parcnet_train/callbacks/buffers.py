"""Callback that shares BatchNorm statistics with all processes before evaluating and saving."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import nn


class SharedBuffers(Callback):
    """Callback that copies the buffers of weights and EMA from the first process to all others.

    Every process has the BatchNorm statistics of its own images. Those of the first process are
    saved; torch copies them to the others before a training step, but neither after the last step
    nor for the averages.
    """

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Share the buffers before the weights are evaluated, and before the EMA replaces them."""
        self._share(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Share the buffers if an epoch ends without validation."""
        self._share(trainer, pl_module)

    def _share(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        modules: list[nn.Module | None] = [pl_module]
        modules += [
            each._average_model
            for each in trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(each, WeightAveraging)
        ]
        for module in modules:
            for buffer in module.buffers() if module else ():
                torch.distributed.broadcast(buffer, src=0)
