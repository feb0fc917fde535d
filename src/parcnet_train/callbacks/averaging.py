"""The exponential moving average of the weights, EMA."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Averages weights and BatchNorm statistics; evaluated and saved in place of the weights.

    It starts at the first weights and is updated after every optimizer step:
    `ema = decay * ema + (1 - decay) * weights`, as released.

    Args:
        decay: for a step of the recipe's reference batch; a step of another batch decays by
            `decay ** (batch / reference)`, which averages over as many samples (arXiv 2307.13813).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pairs the averaged tensors with their sources."""
        assert self._average_model is not None
        module = self._average_model.module
        pairs = [
            *zip(module.parameters(), pl_module.parameters(), strict=True),
            *zip(module.buffers(), pl_module.buffers(), strict=True),
        ]
        self.averaged = columns(pair for pair in pairs if pair[0].is_floating_point())
        self.copied = columns(pair for pair in pairs if not pair[0].is_floating_point())  # counters
        share: Any = pl_module.reference_share  # of a `Task`
        self.share = 1 - float(self.decay**share)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Updates the average after an optimizer step, all tensors at once."""
        if trainer.global_step == self._latest_update_step:
            return
        self._latest_update_step = trainer.global_step
        torch._foreach_lerp_(*self.averaged, self.share)
        if self.copied[0]:  # a network without BatchNorm counts nothing
            torch._foreach_copy_(*self.copied)


def columns(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Averages and their sources as two lists, which may be empty."""
    listed = list(pairs)
    return [average for average, _ in listed], [source for _, source in listed]
