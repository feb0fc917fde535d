"""Demonstration data of segmentation: scenes of stickers, in PASCAL VOC's layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from parcnet_train.data.palette import voc_palette
from parcnet_train.data.scenes import COUNTS, QUALITY, Scene, draw_scenes
from parcnet_train.data.writing import write_once

IGNORED = 255  # index of pixels that belong to no class


def write_segmentation_scenes(root: Path) -> None:
    """Writes `root/JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation` and `classes.txt`.

    A folder that is there is left as it is.
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
            mask = Image.fromarray(label(scene))
            mask.putpalette(voc_palette())
            mask.save(masks / f"{names[-1]}.png")
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in ["background", *range(10)]))


def label(scene: Scene) -> npt.NDArray[np.uint8]:
    """Class of every pixel: 0 the background, digits from 1, edges ignored.

    Args:
        scene: the image, and what is in it.

    Returns:
        `(height, width)`.
    """
    classes = [0, *(sticker.digit.label + 1 for sticker in scene.stickers)]
    mask = np.array(classes, np.uint8)[scene.owners]
    # Where a pixel and its neighbours, across corners too, do not belong together.
    square = np.ones((3, 3), np.uint8)
    mask[cv2.dilate(scene.owners, square) != cv2.erode(scene.owners, square)] = IGNORED
    return mask
