"""Image classification: cross entropy with label smoothing, top-1 and top-5 accuracy."""

from __future__ import annotations

import functools
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from parcnet_train.data.batches import ClassificationBatch
from parcnet_train.model import Model
from parcnet_train.tasks.base import OptimizerFactory, Schedule, Task


class ClassificationTask(Task):
    """Trains and evaluates a classifier.

    Args:
        model: makes logits of images.
        num_classes: length of the logits.
        optimizer: makes an optimizer of a model.
        schedule: maps a step, `max_lr` and `total_steps` to a factor of the learning rate.
        label_smoothing: share of the target that all classes divide (paper: 0.1); training only.
    """

    monitor: ClassVar[str] = "val/top1"
    mode: ClassVar[str] = "max"

    def __init__(
        self,
        model: Model,
        num_classes: int,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__(model, optimizer, schedule)
        self.label_smoothing = label_smoothing
        # Validation of arguments would look at every batch, and wait for the device.
        accuracy = functools.partial(MulticlassAccuracy, average="micro", validate_args=False)
        self.metrics = nn.ModuleDict(
            {
                "val/top1": accuracy(num_classes, top_k=1),
                "val/top5": accuracy(num_classes, top_k=min(5, num_classes)),
                "val/loss": MeanMetric(nan_strategy="disable"),
                "val/skipped": SumMetric(),
            }
        )

    def training_step(self, batch: ClassificationBatch, batch_idx: int) -> Tensor:
        """Loss of one batch, a scalar."""
        logits = self.model(batch.images)
        loss = functional.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        size = len(batch.labels)
        self.log(
            "train/loss",
            loss,
            prog_bar=True,
            on_step=True,
            on_epoch=True,
            batch_size=size,
            sync_dist=True,
        )
        self.log(
            "train/skipped",
            batch.skipped.float(),
            on_step=False,
            on_epoch=True,
            reduce_fx="sum",
            batch_size=size,
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: ClassificationBatch, batch_idx: int) -> None:
        """Adds one batch to the metrics; the loss is not smoothed."""
        logits = self.model(batch.images).float()
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        values = {"val/loss": losses, "val/skipped": batch.skipped}
        for name, metric in self.metrics.items():
            assert isinstance(metric, Metric)
            if name in values:
                metric.update(values[name])
            else:
                metric.update(logits, batch.labels)
            self.log(name, metric, prog_bar=name == self.monitor)
