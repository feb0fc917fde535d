"""The first training batches as the network sees them, with labels, boxes or masks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from parcnet_train.data.batches import (
    UNLABELED,
    ClassificationBatch,
    DetectionBatch,
    SegmentationBatch,
)
from parcnet_train.errors import first_line
from parcnet_train.pages.parts import Block, Drawing, save
from parcnet_train.visualize.class_maps import draw_classes
from parcnet_train.visualize.detections import draw_boxes
from parcnet_train.visualize.pictures import Picture, encode, fitted, to_picture

log = logging.getLogger(__name__)

BATCHES = 3
SIDE = 240  # longer side of an image without boxes or masks, in pixels
MOST = 24  # largest factor by which they are enlarged


class FirstBatches(Callback):
    """Pictures of the first batches of a new training, drawn by the first process.

    The images are those that the network gets, after augmentation and mixing. Nothing is drawn
    after a resume: the directory has the pictures of the start.

    Args:
        folder: Run directory.
        count: Number of images of every batch to draw.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.batch: Any = None  # batch of the current step
        self.blocks: list[Block] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch, if the training is new."""
        if trainer.is_global_zero and trainer.global_step == 0:
            self.names: list[str] = trainer.datamodule.class_names  # type: ignore[attr-defined]
            pl_module.watch_images = self.draw  # type: ignore[assignment]  # of a `Task`

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch of the step, and end after some."""
        if len(self.blocks) == BATCHES:
            pl_module.watch_images = None  # type: ignore[assignment]
            self.batch, self.blocks = None, []
        elif pl_module.watch_images is not None:
            self.batch = batch

    def draw(self, images: Tensor) -> None:
        """Draw the images that the network gets in this step; a failure is a warning.

        Args:
            images: Images `(B, 3, H, W)` uint8, or float in [0, 1].
        """
        number = len(self.blocks) + 1
        try:
            drawings = [
                Drawing(f"batch_{number}_{place + 1}", encode(picture), alt, caption)
                for place in range(min(self.count, len(images)))
                for picture, alt, caption in [self.drawn(images, place)]
            ]
            size = f"{len(images)} images of {images.shape[3]}x{images.shape[2]} pixels"
            kind = "pictures" if isinstance(self.batch, ClassificationBatch) else "pictures wide"
            self.blocks.append(Block(f"Batch {number}", f"{size}.", drawings, kind=kind))
            save(self.folder, "batches", "First training batches, as fed", self.blocks)
        except Exception as error:  # no picture may stop a training
            log.warning("report.html: the first batches are left out: %s", first_line(error))
            self.blocks += [Block("")] * (BATCHES - len(self.blocks))

    def drawn(self, images: Tensor, place: int) -> tuple[Picture, str, str]:
        """Return an image of the batch with its labels, its description and its caption."""
        image, batch = images[place].detach(), self.batch
        picture = to_picture(image if not image.is_floating_point() else (255 * image).byte())
        if isinstance(batch, DetectionBatch):
            count = int((batch.labels[place] != UNLABELED).sum())
            labels = batch.labels[place, :count].tolist()
            boxes, names = batch.boxes[place, :count].cpu().numpy(), [self.names[k] for k in labels]
            drawn = draw_boxes(picture, boxes, labels, names)
            return (
                drawn,
                f"Training image with {count} box{'es' if count != 1 else ''}",
                ", ".join(names) or "no object",
            )
        if isinstance(batch, SegmentationBatch):
            mask = batch.masks[place].cpu().numpy().astype(np.uint8)
            return draw_classes(picture, mask, self.names), "Training image with its mask", ""
        assert isinstance(batch, ClassificationBatch)
        name = self.names[int(batch.labels[place])]
        caption = f"{name}, mixed with another image" if image.is_floating_point() else name
        return fitted(picture, SIDE, MOST), f"Training image of the class {name}", caption
