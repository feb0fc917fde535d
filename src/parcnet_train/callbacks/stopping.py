"""Early stopping: ending a training before its last epoch."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from parcnet_train.bounds import Count, NotNegative
from parcnet_train.errors import ConfigError

log = logging.getLogger(__name__)


class EarlyStopping(Callback):
    """Callback that ends a training whose metric no longer improves.

    The current epoch becomes the last one: it is validated and saved like every other, and the best
    checkpoint is evaluated. A finished run that is resumed with more patience continues.

    Args:
        patience: Number of validations in a row without an improvement that end the training.
        monitor: Metric to watch; None: the one that selects the best checkpoint.
        mode: Direction of an improvement, `max` or `min`; None: `min` for a loss, `max` for every
            other metric.
        min_delta: Smallest change that counts as an improvement.
    """

    def __init__(
        self,
        patience: Count,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        min_delta: NotNegative = 0.0,
    ) -> None:
        self.patience = patience
        self.monitor = monitor
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited = 0  # validations since the best one
        self.reason: str | None = None  # why the training was ended

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a resumed training at once if it had already waited long enough."""
        task: Any = pl_module  # a `Task`
        self.monitor = self.monitor or task.monitor
        self.mode = self.mode or ("min" if self.monitor.endswith("loss") else "max")
        self._stop_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the metric with the best one so far.

        Raises:
            ConfigError: If no validation logs the metric.
        """
        assert self.monitor is not None
        if self.monitor not in trainer.callback_metrics:
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise ConfigError(
                f"callbacks.early_stopping.monitor={self.monitor}: no validation logs this metric; "
                f"expected one of {', '.join(known)}"
            )
        value = float(trainer.callback_metrics[self.monitor])
        if not math.isnan(value) and (self.best is None or self._gain(value) > self.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        self._stop_if_due(trainer)

    def _gain(self, value: float) -> float:
        assert self.best is not None
        return value - self.best if self.mode == "max" else self.best - value

    def _stop_if_due(self, trainer: pl.Trainer) -> None:
        self.reason = None
        if self.waited < self.patience:
            return
        self.reason = (
            f"callbacks.early_stopping: {self.monitor} did not improve on {self.best} in "
            f"{self.waited} validations"
        )
        trainer.should_stop = True
        log.info("%s; the training ends", self.reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; the patience is that of the configuration."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
