"""Demonstration data for segmentation: drawn scenes of stickers in PASCAL VOC's layout."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import simplejpeg

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.demo.scenes import COUNTS, QUALITY, Scene, draw_scenes
from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.segmentation.palette import Mask, write_mask
from parcnet_train.files import write_once

log = logging.getLogger(__name__)


def write_segmentation_scenes(root: Path) -> None:
    """Write `root/JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation` and `classes.txt`.

    An existing folder is not changed.
    """
    write_once(root, _write)


def _write(root: Path) -> None:
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    lists = root / "ImageSets" / "Segmentation"
    for folder in (images, masks, lists):
        folder.mkdir(parents=True)
    for split in COUNTS:
        names = []
        for number, scene in draw_scenes(split):
            names.append(f"{number:06d}")
            (images / f"{names[-1]}.jpg").write_bytes(simplejpeg.encode_jpeg(scene.image, QUALITY))
            write_mask(masks / f"{names[-1]}.png", label(scene))
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in ["background", *range(10)]))


def label(scene: Scene) -> Mask:
    """Return the class of every pixel: 0 for the background, digits from 1, edges ignored.

    Args:
        scene: Image and its stickers.

    Returns:
        Mask, `(height, width)`.
    """
    classes = [0, *(sticker.digit.label + 1 for sticker in scene.stickers)]
    mask = np.array(classes, np.uint8)[scene.owners]
    # Ignore pixels with a neighbor, including diagonal ones, of another sticker or background.
    square = np.ones((3, 3), np.uint8)
    mask[cv2.dilate(scene.owners, square) != cv2.erode(scene.owners, square)] = IGNORED
    return mask


class SegmentationScenes(VocData):
    """`VocData` of drawn scenes, which are written to `root` if it does not exist."""

    writes_root: ClassVar[bool] = True

    def prepare(self) -> None:
        """Write the images, their masks and lists, and log what they are."""
        write_segmentation_scenes(self.folder)
        log.info(
            "data=demo_segmentation is demonstration data: %d drawn scenes of stickers in %s. For "
            "a real run, choose a real data set: data=voc data.root=/path, or data=voc_format "
            "data.root=/path",
            sum(COUNTS.values()),
            self.folder,
        )
