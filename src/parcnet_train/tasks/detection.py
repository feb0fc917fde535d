"""Object detection: SSD's loss, COCO's average precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Unpack

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from parcnet_train.bounds import AtLeast100, Count, PictureCount, Probability, Share
from parcnet_train.callbacks.pictures import Pictures
from parcnet_train.data.batches import PADDING, DetectionBatch
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.detection.evaluation import (
    EVALUATOR,
    FoundObjects,
    GatherDetections,
    coco_metrics,
    write_predictions,
)
from parcnet_train.detection.evaluators import MOST, version_of
from parcnet_train.detection.loss import multibox_loss
from parcnet_train.detection.placement import to_original
from parcnet_train.detection.postprocess import detect
from parcnet_train.detection.types import DetectionOutputs, Detections
from parcnet_train.distributed.collectives import mean
from parcnet_train.models.model import Model
from parcnet_train.tasks.base import Task, TaskArguments
from parcnet_train.tasks.metrics import loss_and_skipped
from parcnet_train.visualize.detections import detection_pairs
from parcnet_train.visualize.pictures import Pair

PREDICTIONS = "predictions.json"
TRAINING_IMAGES = "training_images"  # key of a checkpoint


class DetectionTask(Task):
    """Training and evaluation of a detector.

    Args:
        model: Model that makes `DetectionOutputs` of images.
        num_classes: Number of classes of its logits, including the background.
        label_smoothing: Share of the target that is spread over all classes; only in training.
        score_threshold: Probability that a detection must exceed (ml-cvnets of 2023: 0.01).
        nms_iou: IoU above which the worse of two boxes of a class is removed (released value).
        candidates: Number of best boxes per class that enter NMS (ml-cvnets of 2023).
        detections_per_image: Largest number of boxes to keep after NMS (ml-cvnets of 2023: 200).
        evaluated_detections: Number of best boxes per image and class that the metrics count; COCO
            counts 100, LVIS 300.
        save_predictions: Whether an evaluation of a checkpoint writes `predictions.json`.
        pictures: Number of images that an evaluation draws, and of each kind in `report.html`; 0:
            none.
        **shared: Arguments of `Task`.
    """

    monitor: ClassVar[str] = "val/map"
    mode: ClassVar[str] = "max"
    shown: ClassVar[tuple[str, ...]] = ("val/map", "val/map50", "val/loss")

    def __init__(
        self,
        model: Model,
        num_classes: int,
        label_smoothing: Share = 0.1,
        score_threshold: Share = 0.01,
        nms_iou: Probability = 0.5,
        candidates: Count = 400,
        detections_per_image: Count = 200,
        evaluated_detections: AtLeast100 = MOST,
        save_predictions: bool = False,
        pictures: PictureCount = 4,
        **shared: Unpack[TaskArguments],
    ) -> None:
        super().__init__(model, **shared)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.candidates = candidates
        self.detections_per_image = detections_per_image
        self.evaluated_detections = evaluated_detections
        self.save_predictions = save_predictions
        self.pictures = pictures
        self.val_metrics = loss_and_skipped("val/loss", "val/skipped")
        self.found = GatherDetections()
        self.training_images: list[int] | None = None  # by class, where they are known

    def about(self) -> dict[str, str | int]:
        """Return what computes COCO's metrics, and how many boxes per image and class count."""
        return {
            "evaluator": version_of(EVALUATOR),
            "evaluated_detections": self.evaluated_detections,
        }

    def on_fit_start(self) -> None:
        """Count the training images of each class."""
        super().on_fit_start()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        count = getattr(data.train_set, "images_by_class", None)  # a custom set may lack it
        self.training_images = None if count is None else count()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the numbers of training images; an evaluation need not read their annotations."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TRAINING_IMAGES] = self.training_images

    def prepare_evaluation(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the numbers of training images; older and converted checkpoints have none."""
        self.training_images = checkpoint.get(TRAINING_IMAGES)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that draws the pictures of an evaluation."""
        return [Pictures(self.pictures, self.draw)] if self.pictures else []

    def draw(self, batch: DetectionBatch, found: dict[str, list[Detections]]) -> Iterator[Pair]:
        """Draw pictures of a batch and of the result of `validation_step` for it."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return detection_pairs(batch, found["detections"], data.class_names)

    def losses(
        self, outputs: DetectionOutputs, batch: DetectionBatch, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, summed over anchors, and the positive anchors of each image, `(B,)`."""
        height, width = batch.images.shape[2:]
        # A tensor of both numbers would have to be copied, which waits for the device.
        x, y = batch.boxes[..., 0::2] / width, batch.boxes[..., 1::2] / height
        boxes = torch.stack([x, y], dim=-1).flatten(-2)
        loss = multibox_loss(outputs, boxes, batch.labels, label_smoothing)
        return loss.boxes + loss.classes, loss.positives

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch; its mean over processes is that over positive anchors."""
        outputs, maps = self.outputs_and_maps(batch.images)
        losses, positives = self.losses(outputs, batch, self.label_smoothing)
        # Gradients are averaged over processes, so each divides by the mean number of anchors.
        self.labels = mean(positives.sum())
        share = self.labels.clamp(min=1 / self.trainer.world_size)
        per_anchor = losses.detach() / positives.clamp(min=1)
        self.train_metrics["train/loss_epoch"].update(per_anchor, positives)
        self.train_metrics["train/skipped"].update(batch.skipped)
        return self.with_teacher(losses.sum() / share, batch.images, outputs, maps)

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, list[Detections]]:
        """Add a batch without its padding to the metrics; the loss is not smoothed.

        Returns:
            `detections`: the detections of every element of the batch, in pixels of the original
            images.
        """
        outputs = self.model(batch.images)
        losses, positives = self.losses(outputs, batch)
        self.val_metrics["val/loss"].update(losses / positives.clamp(min=1), positives)
        self.val_metrics["val/skipped"].update(batch.skipped)
        found = detect(
            outputs,
            self.score_threshold,
            self.nms_iou,
            self.candidates,
            self.detections_per_image,
        )
        found = self.in_originals(found, batch)
        self.found.update(batch.samples, found)
        return {"detections": found}

    def validation_metrics(self) -> dict[str, Tensor | float]:
        """Return COCO's metrics, loss and unreadable images; write the predictions if requested."""
        found = self.found.compute()
        metrics = coco_metrics(
            self.annotations,
            found,
            most=self.evaluated_detections,
            training_images=self.training_images,
        )
        values: dict[str, Tensor | float] = {f"val/{name}": metrics[name] for name in metrics}
        values |= self.val_metrics.compute()
        if self.save_predictions and self.trainer.state.fn == TrainerFn.VALIDATING:
            self.write_predictions(found)
        self.val_metrics.reset()
        self.found.reset()
        return values

    def write_predictions(self, found: FoundObjects) -> None:
        """Write `predictions.json` into the run directory, from the first process."""
        if self.trainer.is_global_zero:
            folder = Path(self.trainer.default_root_dir)
            write_predictions(folder / PREDICTIONS, self.annotations, found)

    def in_originals(self, found: list[Detections], batch: DetectionBatch) -> list[Detections]:
        """Convert the detections of a batch to pixels of the original images; padding has none."""
        sizes = self.annotations.sizes
        height, width = batch.images.shape[2:]
        placed = []
        for each, sample, placement in zip(
            found, batch.samples.tolist(), batch.placements, strict=True
        ):
            if sample == PADDING:
                placed.append(Detections(*(tensor[:0] for tensor in each)))
                continue
            boxes = to_original(each.boxes, (height, width), placement, sizes[sample])
            placed.append(each._replace(boxes=boxes))
        return placed

    @property
    def annotations(self) -> CocoAnnotations:
        """Annotations of the validation set."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.val_set.annotations
