"""Semantic segmentation: cross entropy of pixels, mean intersection over union."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Unpack

import torch
from annotated_types import MinLen
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn import functional

from parcnet_train.bounds import PictureCount, Share, UpTo100
from parcnet_train.callbacks.pictures import Pictures
from parcnet_train.config.sections import ClassWeights
from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.distributed.collectives import mean
from parcnet_train.models.model import Model, scaled
from parcnet_train.precision import at_least_float32
from parcnet_train.segmentation.inference import classes_of_windows, logits_of_scales
from parcnet_train.segmentation.iou import Confusion, intersection_over_union, pixel_accuracy
from parcnet_train.segmentation.upsample import Mode, classes_at, covered
from parcnet_train.sizes import Size
from parcnet_train.tasks.base import TaskArguments
from parcnet_train.tasks.class_weights import WeightedTask
from parcnet_train.tasks.metrics import loss_and_skipped
from parcnet_train.visualize.class_maps import segmentation_pairs
from parcnet_train.visualize.pictures import Pair

AUXILIARY_WEIGHT = 0.4  # weight of the auxiliary classifier's loss (arXiv 1612.01105, section 3.3)


class SegmentationTask(WeightedTask):
    """Training and evaluation of a network that classifies pixels.

    Args:
        model: Model that makes logits `(B, num_classes, H, W)` of images.
        num_classes: Number of classes of the logits.
        label_smoothing: Share of the target that is spread over all classes; only in training.
        class_weights: Weight of every class in the training loss, or `balanced`: in inverse
            proportion to its number of training pixels; None: all equal.
        enlarge: Interpolation of the logits to the size of the original image: `nearest` (released
            evaluation) or `bilinear`.
        scales: Scales of the images in an evaluation, whose probabilities are averaged; a single
            scale keeps the logits.
        mirror: Whether to average over mirrored images too.
        pictures: Number of images that an evaluation draws, and of each kind in `report.html`; 0:
            none.
        **shared: Arguments of `Task`.
    """

    monitor: ClassVar[str] = "val/miou"
    mode: ClassVar[str] = "max"
    shown: ClassVar[tuple[str, ...]] = ("val/miou", "val/pixel_accuracy", "val/loss")

    def __init__(
        self,
        model: Model,
        num_classes: int,
        label_smoothing: Share = 0.0,
        class_weights: ClassWeights = None,
        enlarge: Mode = "nearest",
        scales: Annotated[Sequence[UpTo100], MinLen(1)] = (1.0,),
        mirror: bool = False,
        pictures: PictureCount = 4,
        **shared: Unpack[TaskArguments],
    ) -> None:
        super().__init__(model, num_classes, class_weights, **shared)
        self.label_smoothing = label_smoothing
        self.enlarge: Mode = enlarge
        self.scales = scales
        self.mirror = mirror
        self.pictures = pictures
        self.val_metrics = loss_and_skipped("val/loss", "val/skipped")
        self.confusion = Confusion(num_classes)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that draws the pictures of an evaluation."""
        return [Pictures(self.pictures, self.draw)] if self.pictures else []

    def draw(self, batch: SegmentationBatch, found: dict[str, list[Tensor]]) -> Iterator[Pair]:
        """Draw pictures of a batch and of the result of `validation_step` for it."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return segmentation_pairs(batch, found["classes"], data.class_names)

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch; its mean over processes is that over labeled pixels."""
        outputs, maps = self.outputs_and_maps(batch.images)
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        smoothing, weights = self.label_smoothing, self.weights
        losses = self.pixel_losses(main, batch.masks, smoothing, weights)
        for logits in auxiliary:
            losses = losses + AUXILIARY_WEIGHT * self.pixel_losses(
                logits, batch.masks, smoothing, weights
            )
        labeled = (batch.masks != IGNORED).sum(dim=(1, 2))
        # Gradients are averaged over processes, so each divides by the mean number of pixels. With
        # weights, the sum of the weights counts instead.
        if weights is None:
            self.labels = share = mean(labeled.sum())
        else:
            weight = weight_of_masks(batch.masks, weights)
            share, self.labels = mean(torch.stack([labeled.sum().to(weight.dtype), weight]))
            losses = losses * (share / self.labels.where(self.labels > 0, 1))
        share = share.where(share > 0, 1)
        self.train_metrics["train/loss_epoch"].update(
            losses.detach() / labeled.clamp(min=1), labeled > 0
        )
        self.train_metrics["train/skipped"].update(batch.skipped)
        return self.with_teacher(losses.sum() / share, batch.images, outputs, maps)

    def pixel_losses(
        self,
        logits: Tensor,
        masks: Tensor,
        label_smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the cross entropy of the labeled pixels, summed per image: `(B,)`."""
        return functional.cross_entropy(
            at_least_float32(logits),
            masks.long(),
            weight=weights,
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="none",
        ).sum(dim=(1, 2))

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, list[Tensor]]:
        """Add a batch without its padding to the metrics.

        Returns:
            `classes`: the classes of the pixels of each original image, `(h, w)` uint8.
        """
        self.val_metrics["val/skipped"].update(batch.skipped)
        if self.window is not None:
            found = [classes_of_windows(self.logits, image, self.window) for image in batch.images]
        else:
            found = self.classes_of_batch(batch)
        for classes, truth, sample in zip(
            found, batch.originals, batch.samples.tolist(), strict=True
        ):
            if sample != PADDING:
                self.confusion.update(classes, truth)
        return {"classes": found}

    def classes_of_batch(self, batch: SegmentationBatch) -> list[Tensor]:
        """Predict all pixels of the original images from resized images; add the loss."""
        logits = self.logits(batch.images).float()
        labeled = (batch.masks != IGNORED).sum(dim=(1, 2))
        losses = self.pixel_losses(logits, batch.masks) / labeled.clamp(min=1)
        self.val_metrics["val/loss"].update(losses, labeled > 0)
        found = []
        for each, truth, placement in zip(logits, batch.originals, batch.placements, strict=True):
            size = truth.shape[0], truth.shape[1]
            rows, columns = covered(size, placement)
            found.append(classes_at(each[:, rows, columns], size, self.enlarge))
        return found

    def logits(self, images: Tensor) -> Tensor:
        """Compute logits of images, averaged over scales and mirroring if requested."""
        return logits_of_scales(self.model, scaled(images), self.scales, self.mirror)

    def validation_metrics(self) -> dict[str, Tensor]:
        """Return IoUs, pixel accuracy, loss and the number of unreadable images."""
        confusion = self.confusion.compute()
        shares = intersection_over_union(confusion)
        names: list[str] = self.trainer.datamodule.class_names  # type: ignore[attr-defined]
        values = {
            "val/miou": shares.nanmean(),
            "val/pixel_accuracy": pixel_accuracy(confusion),
            **{f"val/iou/{name}": share for name, share in zip(names, shares, strict=True)},
            "val/skipped": self.val_metrics["val/skipped"].compute(),
        }
        if self.window is None:  # there is no loss for windows
            values["val/loss"] = self.val_metrics["val/loss"].compute()
        self.val_metrics.reset()
        self.confusion.reset()
        return values

    @property
    def window(self) -> Size | None:
        """Window of an evaluation by sliding windows, see `VocData`; None without windows."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.window


def weight_of_masks(masks: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the weights of all labeled pixels of masks `(B, H, W)`, a scalar."""
    # Selecting or counting pixels would wait for the device, which a lookup does not.
    of_values = functional.pad(weights, (0, IGNORED + 1 - len(weights)))
    return of_values[masks.long()].sum()
