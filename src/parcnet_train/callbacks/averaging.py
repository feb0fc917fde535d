"""The exponential moving average (EMA) of the weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from parcnet_train.bounds import Probability, Share

log = logging.getLogger(__name__)

MOST_INITIAL = 0.01  # largest share of the initial weights in the average at the end of a run


class EMA(WeightAveraging):
    """An average of the weights, which is evaluated and saved in place of the weights.

    The average starts at the first weights and is updated after every optimizer step:
    `ema = decay * ema + (1 - decay) * weights`.

    Args:
        decay: Decay of a step of the recipe's reference batch. A step of a different batch decays
            by `decay ** (batch / reference)`, so that the average covers the same number of samples
            (arXiv 2307.13813).
        warmup: Whether the decay of early steps is at most `(1 + t) / (10 + t)`, where `t` is the
            number of samples seen before the step, in reference batches (as in TensorFlow's
            `ExponentialMovingAverage`). Without it, a short run keeps its initial weights in the
            average. The released code has none.
        buffers: Treatment of the floating-point buffers, BatchNorm's running statistics. `copy`
            takes them from the trained network, where they are averages already; `average`
            averages them once more, as released.
        compare: Whether every evaluation also evaluates the trained weights, and logs their metric
            beside that of the average.
        final_decay: Decay at the end of the run, to which the decay rises along half a cosine of
            the position in the training (arXiv 2006.07733, section 3.3); None: it stays.
    """

    def __init__(
        self,
        decay: Share,
        warmup: bool = True,
        buffers: Literal["copy", "average"] = "copy",
        compare: bool = False,
        final_decay: Probability | None = None,
    ) -> None:
        super().__init__()
        self.decay = decay
        self.warmup = warmup
        self.buffers = buffers
        self.compare = compare
        self.final_decay = final_decay

    def decay_of(self, step: Any) -> float:
        """Return the decay of an optimizer step.

        Args:
            step: A `Step` of a `Task`.
        """
        decay = self.decay
        if self.final_decay is not None:
            share = min(step.position.epochs / step.position.total_epochs, 1.0)
            rest = 0.5 * (1 + math.cos(math.pi * share))
            decay = self.final_decay - (self.final_decay - decay) * rest
        if self.warmup:
            decay = min(decay, (1 + step.seen) / (10 + step.seen))
        return float(decay**step.share)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pair the average's tensors with their sources, and warn if the run is too short."""
        assert self._average_model is not None
        # Lightning copies the network before it moves it to its device.
        module = self._average_model.to(pl_module.device).module
        pairs: list[tuple[Tensor, Tensor]] = []
        pairs += zip(module.parameters(), pl_module.parameters(), strict=True)
        copies: list[tuple[Tensor, Tensor]] = []
        for pair in zip(module.buffers(), pl_module.buffers(), strict=True):
            averages = self.buffers == "average" and pair[0].is_floating_point()  # not a counter
            (pairs if averages else copies).append(pair)
        self.averaged, self.copied = columns(pairs), columns(copies)
        self.warn_of_initial_weights(pl_module)

    def warn_of_initial_weights(self, task: Any) -> None:
        """Warn if the average at the end of the run still contains much of the initial weights."""
        left = 1.0
        for step in task.steps():
            left *= self.decay_of(step)
            if left <= MOST_INITIAL:
                return
        log.warning(
            "recipe.ema.decay=%s: the initial weights still make up %.3g %% of the average at the "
            "end of this run; expected at most %.0f %%. Fix: %s",
            self.decay,
            100 * left,
            100 * MOST_INITIAL,
            "train longer, or set recipe.ema=null" if self.warmup else "set recipe.ema.warmup=true",
        )

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the average after an optimizer step, all tensors at once."""
        if trainer.global_step == self._latest_update_step:
            return
        self._latest_update_step = trainer.global_step
        task: Any = pl_module
        decay = self.decay_of(task.step_of(batch_idx, trainer.current_epoch))
        torch._foreach_lerp_(*self.averaged, 1 - decay)
        if self.copied[0]:  # a network without buffers has none
            torch._foreach_copy_(*self.copied)

    @property
    def raw(self) -> Any:
        """Copy of the `Task` that has the trained weights and its own metrics in an evaluation."""
        assert self._average_model is not None
        return self._average_model.module

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the average and the weights."""
        super().on_validation_epoch_start(trainer, pl_module)
        if self.compare:
            self.raw.trainer = trainer
            self.raw.eval()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Evaluate the trained weights on the same batch."""
        if self.compare:
            with trainer.precision_plugin.val_step_context():
                self.raw.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metric of the trained weights, and swap the average and the weights back."""
        if self.compare:
            monitor = self.raw.monitor
            pl_module.log(raw_metric(monitor), self.raw.validation_metrics()[monitor])
        super().on_validation_epoch_end(trainer, pl_module)


def raw_metric(metric: str) -> str:
    """Return the name under which a metric of the trained weights is logged, not the average's."""
    return metric.replace("val/", "val/raw/", 1)


def columns(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Return averages and their sources as two lists, which may be empty."""
    return [average for average, _ in pairs], [source for _, source in pairs]
