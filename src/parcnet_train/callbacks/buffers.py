"""BatchNorm statistics that all processes share before they are evaluated or saved."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import nn


class SharedBuffers(Callback):
    """Gives all processes the buffers of the first: those of the weights, and those of their EMA.

    Every process has BatchNorm statistics of its own images. The first one's are saved; torch
    brings them to the others in front of a training step, but neither after the last one nor to
    the averages.
    """

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the weights are evaluated, and the EMA takes their place."""
        self._share(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where an epoch ends without validation, too."""
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
