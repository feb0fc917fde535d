"""Demonstration data for detection: drawn scenes of stickers in COCO's layout."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import simplejpeg

from parcnet_train.data.demo.scenes import COUNTS, QUALITY, Scene, draw_scenes
from parcnet_train.data.detection.module import CocoData
from parcnet_train.files import write_once

log = logging.getLogger(__name__)


def write_detection_scenes(root: Path) -> None:
    """Write `root/{train,val}2017/*.jpg` and `root/annotations`, unless `root` exists."""
    write_once(root, _write)


def _write(root: Path) -> None:
    (root / "annotations").mkdir()
    for split in COUNTS:
        content = _write_half(root / f"{split}2017", split)
        file = root / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(content))


def _write_half(folder: Path, split: str) -> dict[str, Any]:
    """Write the images of a split.

    Returns:
        Content of its annotation file.
    """
    folder.mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in draw_scenes(split):
        name = f"{number:012d}.jpg"
        (folder / name).write_bytes(simplejpeg.encode_jpeg(scene.image, QUALITY))
        height, width, _ = scene.image.shape
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += [{"image_id": number, **annotation} for annotation in annotate(scene)]
    return {
        "info": {"description": "Drawn scenes of stickers with handwritten digits"},
        "images": images,
        "annotations": [{"id": n, **annotation} for n, annotation in enumerate(annotations, 1)],
        "categories": [{"id": digit + 1, "name": str(digit)} for digit in range(10)],
    }


def annotate(scene: Scene) -> list[dict[str, Any]]:
    """Return category, box and area of the visible part of each sticker, in COCO's format.

    Args:
        scene: Image and its stickers.

    Returns:
        One annotation per sticker. A box is left, top, width, height in pixels; an area is in
        pixels.
    """
    annotations = []
    for number, sticker in enumerate(scene.stickers, 1):
        rows, columns = np.nonzero(scene.owners == number)
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
        annotations.append(
            {
                "category_id": sticker.digit.label + 1,
                "bbox": [left, top, width, height],
                "area": len(rows),
                "iscrowd": 0,
            }
        )
    return annotations


class DetectionScenes(CocoData):
    """`CocoData` of drawn scenes, which are written to `root` if it does not exist."""

    writes_root: ClassVar[bool] = True

    def prepare(self) -> None:
        """Write the images and their annotations, and log what they are."""
        write_detection_scenes(self.folder)
        log.info(
            "data=demo_detection is demonstration data: %d drawn scenes of stickers in %s. For a "
            "real run, choose a real data set: data=coco data.root=/path, or data=coco_format "
            "data.root=/path",
            sum(COUNTS.values()),
            self.folder,
        )
