"""What all tasks share: a model, its optimizer, and the schedule of the learning rate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from parcnet_train.model import Model

log = logging.getLogger(__name__)

OptimizerFactory = Callable[[Model], Optimizer]
Schedule = Callable[..., float]


class Task(pl.LightningModule):
    """Base of the tasks; `monitor` names the metric that chooses the best epoch, `mode` its sense.

    Args:
        model: backbone and head.
        optimizer: makes an optimizer of a model.
        schedule: maps a step, `max_lr` and `total_steps` to a factor of the learning rate.
    """

    monitor: ClassVar[str]
    mode: ClassVar[str]

    def __init__(self, model: Model, optimizer: OptimizerFactory, schedule: Schedule) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.schedule = schedule

    def configure_optimizers(self) -> Any:
        """One optimizer over all that is trained, its learning rate set for every step."""
        optimizer = self.make_optimizer(self.model)
        total_steps = int(self.trainer.estimated_stepping_batches)
        max_lr = optimizer.defaults["lr"]

        def factor(step: int) -> float:
            return self.schedule(step, max_lr=max_lr, total_steps=total_steps)

        final = factor(total_steps - 1)
        if final < 1 and final >= max(map(factor, range(total_steps))):
            log.warning(
                "the learning rate reaches %.1e, not recipe.optimizer.lr=%s: the run of %d steps "
                "ends in its warm-up; shorten recipe.schedule.warmup_steps",
                final * max_lr,
                max_lr,
                total_steps,
            )
        # Kept for `on_train_start`: a resumed optimizer brings the values of the old configuration.
        self.settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from the trained weights where EMA was on before and is off now."""
        averages = any(isinstance(each, WeightAveraging) for each in self.trainer.callbacks)  # type: ignore[attr-defined]
        if not averages and "current_model_state" in checkpoint:
            checkpoint["state_dict"] = checkpoint["current_model_state"]

    def on_train_start(self) -> None:
        """Makes this run's configuration hold, also where a checkpoint brought other values."""
        (optimizer,) = self.trainer.optimizers
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, LambdaLR)
        for group, settings in zip(optimizer.param_groups, self.settings, strict=True):
            group.update(settings, initial_lr=settings["lr"])
        scheduler.base_lrs = [settings["lr"] for settings in self.settings]
        for group, factor in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(scheduler.last_epoch)
