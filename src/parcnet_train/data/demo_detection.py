"""Demonstration data of detection: scenes of stickers, as JPEG files in COCO's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from parcnet_train.data.scenes import COUNTS, Scene, draw_scenes
from parcnet_train.data.writing import write_once

QUALITY = 90  # of the JPEG files


def write_detection_scenes(root: Path) -> None:
    """Writes `root/{train,val}2017/*.jpg` and `root/annotations`, unless they are there."""
    write_once(root, _write)


def _write(root: Path) -> None:
    (root / "annotations").mkdir()
    image_id = 0
    for split in COUNTS:
        folder = root / f"{split}2017"
        folder.mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, scene in enumerate(draw_scenes(split), image_id + 1):  # noqa: B020
            height, width, _ = scene.image.shape
            name = f"{image_id:012d}.jpg"
            (folder / name).write_bytes(simplejpeg.encode_jpeg(scene.image, QUALITY))
            images.append({"id": image_id, "file_name": name, "width": width, "height": height})
            annotations += annotate(scene, image_id)
        for number, annotation in enumerate(annotations, 1):
            annotation["id"] = number
        content = {
            "info": {"description": "Scenes of stickers with handwritten digits, drawn"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": digit + 1, "name": str(digit)} for digit in range(10)],
        }
        file = root / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(content))


def annotate(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """Boxes and areas of what is seen of each sticker, as COCO writes them.

    Args:
        scene: the image, and what is in it.
        image_id: number of the image in the annotation file.

    Returns:
        One annotation per sticker; box: left, top, width, height, in pixels.
    """
    annotations = []
    for number, sticker in enumerate(scene.stickers, 1):
        rows, columns = (indices for indices in np.nonzero(scene.owners == number))
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
        annotations.append(
            {
                "image_id": image_id,
                "category_id": sticker.digit.label + 1,
                "bbox": [left, top, width, height],
                "area": len(rows),
                "iscrowd": 0,
            }
        )
    return annotations
