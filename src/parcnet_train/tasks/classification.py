"""Image classification: cross entropy with label smoothing, top-1 and top-5 accuracy."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric, SumMetric

from parcnet_train.bounds import PictureCount, Share
from parcnet_train.config.sections import ClassWeights, EvaluatedClasses, MixingOptions
from parcnet_train.data.batches import UNLABELED, ClassificationBatch
from parcnet_train.distributed.collectives import mean
from parcnet_train.models.model import Model
from parcnet_train.tasks.base import TaskArguments
from parcnet_train.tasks.class_weights import WeightedTask, weights_of_labels
from parcnet_train.tasks.metrics import Accuracy, ExactMean
from parcnet_train.tasks.mixing import Mixing


class ClassificationTask(WeightedTask):
    """Training and evaluation of a classifier.

    Args:
        model: Model that makes logits of images.
        num_classes: Number of logits.
        label_smoothing: Share of the target that is spread over all classes (paper: 0.1); only in
            training.
        class_weights: Weight of every class in the training loss, or `balanced`: in inverse
            proportion to its number of training images; None: all equal.
        evaluated_classes: Classes on which `action=test` evaluates; None: all. They are given as
            `folders`, those of the class folders, as a list of names, or as a text file with a
            class, or a folder, a tab and its class, per line. The logits of other classes are left
            out.
        mixing: Alphas of `mixup` and `cutmix`, see `Mixing`; None: off; only in training.
        pictures: Number of example images of each kind in `report.html`; 0: no pictures.
        **shared: Arguments of `Task`.
    """

    monitor: ClassVar[str] = "val/top1"
    mode: ClassVar[str] = "max"
    shown: ClassVar[tuple[str, ...]] = ("val/top1", "val/top5", "val/loss")

    def __init__(
        self,
        model: Model,
        num_classes: int,
        label_smoothing: Share = 0.1,
        mixing: MixingOptions | None = None,
        class_weights: ClassWeights = None,
        evaluated_classes: EvaluatedClasses = None,
        pictures: PictureCount = 4,
        **shared: Unpack[TaskArguments],
    ) -> None:
        super().__init__(model, num_classes, class_weights, **shared)
        self.label_smoothing = label_smoothing
        self.pictures = pictures
        self.evaluated_classes = evaluated_classes
        self.left_out: Tensor | None = None  # (K,) bool, on the device of the evaluation
        self.mixing = Mixing(num_classes, **mixing) if mixing and any(mixing.values()) else None
        # Validating arguments would read every batch, and wait for the device.
        accuracy = functools.partial(
            Accuracy, average="micro", ignore_index=UNLABELED, validate_args=False
        )
        self.metrics = nn.ModuleDict(
            {
                "val/top1": accuracy(num_classes, top_k=1),
                "val/top5": accuracy(num_classes, top_k=min(5, num_classes)),
                "val/loss": ExactMean(),
                "val/skipped": SumMetric("disable"),
            }
        )

    def training_step(self, batch: ClassificationBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, a scalar."""
        images, labels = batch.images, batch.labels
        if self.mixing is not None:
            images, labels = self.mixing(images, labels)
        logits, maps = self.outputs_and_maps(images)
        losses = functional.cross_entropy(
            logits,
            labels,
            weight=self.weights,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        if self.weights is not None:
            # Gradients are averaged over processes, so each divides by the mean sum of weights.
            self.labels = mean(weights_of_labels(labels, self.weights).sum())
            losses = losses * (len(losses) / (self.labels * self.image_weight))
        losses = self.with_teacher(losses, images, logits, maps)
        self.train_metrics["train/loss_epoch"].update(losses.detach())
        self.train_metrics["train/skipped"].update(batch.skipped)
        return losses.mean() * self.image_weight

    def on_validation_start(self) -> None:
        """Mark the classes that are not evaluated."""
        super().on_validation_start()
        if self.evaluated_classes is not None:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self.left_out = torch.ones(self.num_classes, dtype=torch.bool, device=self.device)
            self.left_out[data.evaluated_classes] = False

    def validation_step(self, batch: ClassificationBatch, batch_idx: int) -> dict[str, Tensor]:
        """Add a batch without its padding to the metrics; the loss is not smoothed.

        Returns:
            `logits`: the logits of the images, `(B, K)` float32.
        """
        logits = self.model(batch.images).float()
        if self.left_out is not None:
            logits = logits.masked_fill(self.left_out, -torch.inf)
        losses = functional.cross_entropy(
            logits, batch.labels, reduction="none", ignore_index=UNLABELED
        )
        values: dict[str, tuple[Tensor, ...]] = {
            "val/loss": (losses, batch.labels != UNLABELED),
            "val/skipped": (batch.skipped,),
        }
        for name, metric in self.metrics.items():
            assert isinstance(metric, Metric)
            metric.update(*values.get(name, (logits, batch.labels)))
        return {"logits": logits}

    def validation_metrics(self) -> dict[str, Tensor]:
        """Return accuracies, loss and the number of unreadable images."""
        values = {}
        for name, metric in self.metrics.items():
            assert isinstance(metric, Metric)
            values[name] = metric.compute()
            metric.reset()
        return values
