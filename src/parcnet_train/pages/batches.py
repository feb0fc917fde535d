"""The first training batches as the network sees them, with labels, boxes or masks."""

from __future__ import annotations

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
from parcnet_train.pages.parts import Block, Drawing, harmless, save
from parcnet_train.visualize.class_maps import draw_classes
from parcnet_train.visualize.detections import draw_boxes
from parcnet_train.visualize.pictures import Picture, encode, fitted, to_picture

BATCHES = 3
SIDE = 240  # longer side of an image without boxes or masks, in pixels
LARGEST_FACTOR = 24  # by which they are enlarged
FIRST_BATCHES = "batches"  # key of the section
LOSS = "the first batches are left out"  # if they cannot be drawn or written


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
        self.steps = 0  # that have begun
        self.blocks: list[Block] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch, if the training is new."""
        if trainer.is_global_zero and trainer.global_step == 0:
            self.names: list[str] = trainer.datamodule.class_names  # type: ignore[attr-defined]
            pl_module.watch_images = self.draw  # type: ignore[assignment]  # of a `Task`

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch of the step; stop after `BATCHES` batches."""
        if pl_module.watch_images is None:
            return
        if self.steps == BATCHES:
            self.stop(pl_module)
        else:
            self.batch = batch
            self.steps += 1

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the pictures of a training of fewer batches."""
        self.stop(pl_module)

    def stop(self, pl_module: pl.LightningModule) -> None:
        """Write what was drawn, and watch no longer."""
        pl_module.watch_images = None  # type: ignore[assignment]
        if self.blocks:
            with harmless(self.folder, LOSS):
                save(self.folder, FIRST_BATCHES, "First training batches, as fed", self.blocks)
        self.batch, self.blocks = None, []

    def draw(self, images: Tensor) -> None:
        """Draw the images that the network gets in this step; a failure is a warning.

        Args:
            images: Images `(B, 3, H, W)` uint8, or float in [0, 1].
        """
        with harmless(self.folder, LOSS):
            self.blocks.append(self.block(images))
            return
        self.steps = BATCHES  # the next would fail as well

    def block(self, images: Tensor) -> Block:
        """Return the pictures of the batch."""
        drawings = [
            Drawing(f"batch_{self.steps}_{place + 1}", encode(picture), alt, caption)
            for place in range(min(self.count, len(images)))
            for picture, alt, caption in [self.drawn(images, place)]
        ]
        size = f"{len(images)} images of {images.shape[3]}x{images.shape[2]} pixels"
        kind = "pictures" if isinstance(self.batch, ClassificationBatch) else "pictures wide"
        return Block(f"Batch {self.steps}", f"{size}.", drawings, kind=kind)

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
        return fitted(picture, SIDE, LARGEST_FACTOR), f"Training image of the class {name}", caption
