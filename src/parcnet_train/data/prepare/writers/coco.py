"""COCO's layout, for `data=coco_format`.

ROOT/{train,val,test}2017/*    ROOT/annotations/instances_{train,val,test}2017.json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.prepare.annotated import SPLITS, AnnotatedImage, AnnotatedSet, Split
from parcnet_train.data.prepare.shapes import area_of
from parcnet_train.data.prepare.sources import write_file
from parcnet_train.errors import DataError
from parcnet_train.files import to_json

COMMAND = "task=detection data=coco_format"


def path_of(image: AnnotatedImage, name: str) -> str:
    """Return the path of an image below the root."""
    return f"{image.split}2017/{name}"


def annotations_of(split: Split) -> str:
    """Return the path of an annotation file below the root."""
    return f"annotations/instances_{split}2017.json"


def write(root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
    """Write the annotation file of every set that has images.

    Args:
        root: Folder to write to; the images are already there.
        found: Set to write.
        names: File name of each image.
    """
    for split in SPLITS:
        chosen = [
            (image, name)
            for image, name in zip(found.images, names, strict=True)
            if image.split == split
        ]
        if chosen:
            write_file(root / annotations_of(split), to_json(document_of(found.classes, chosen)))


def document_of(
    classes: Sequence[str], chosen: Sequence[tuple[AnnotatedImage, str]]
) -> dict[str, Any]:
    """Return the content of an annotation file; ids count from 1."""
    ids = {name: number for number, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, name) in enumerate(chosen, 1):
        assert image.size is not None
        height, width = image.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for shape in image.objects:
            left, top, right, bottom = shape.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[shape.name],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": area_of(shape, image.size),
                    "iscrowd": int(shape.is_crowd),
                    "segmentation": shape.runs or [list(polygon) for polygon in shape.polygons],
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


def verify(root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
    """Read every annotation file as a training does, and compare its numbers with the set.

    Raises:
        DataError: If one of them differs.
    """
    for split in SPLITS:
        images = [image for image in found.images if image.split == split]
        if not images:
            continue
        file = root / annotations_of(split)
        written = read_annotations(file)
        objects = sum(len(image.objects) for image in images)
        if (len(written), len(written.boxes)) != (len(images), objects):
            raise DataError(
                f"{file} has {len(written):,} images and {len(written.boxes):,} objects; expected "
                f"{len(images):,} and {objects:,}"
            )
