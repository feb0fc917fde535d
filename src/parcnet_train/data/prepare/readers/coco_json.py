"""COCO's JSON files, as Roboflow, CVAT and label-studio export them, and in our own layout.

    train/_annotations.coco.json    train/*.jpg                     Roboflow
    annotations/instances_default.json    images/default/*          CVAT
    result.json    images/*                                         label-studio

Classes are merged by name. Categories without annotations that only group others, like Roboflow's
root, are no classes. label-studio's paths may be absolute or have the hash of an upload.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parcnet_train.data.detection.coco import CocoAnnotations, read_annotations
from parcnet_train.data.detection.coco_categories import (
    spare_categories,
    used_categories,
    without_categories,
)
from parcnet_train.data.detection.coco_entries import collector_off
from parcnet_train.data.prepare.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    Polygon,
    Runs,
    Split,
    split_named,
)
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import Images, read_text, relative
from parcnet_train.errors import DataError

ROBOFLOW = "_annotations.coco.json"
LABEL_STUDIO = "result.json"
INSTANCES = "instances_"
EXPECTED = (
    "expected FILE.json, train/_annotations.coco.json (Roboflow), annotations/instances_*.json "
    "(CVAT) or result.json (label-studio)"
)


def read_coco_json(path: Path, faults: Faults) -> AnnotatedSet:
    """Read a set.

    Args:
        path: Folder of the set, or its only annotation file.
        faults: Collects what is wrong.

    Raises:
        DataError: If no annotation file is found, or one is invalid.
    """
    files = annotation_files(path)
    root = path if path.is_dir() else path.parent
    images = Images(root)
    used = {number for file, _ in files for number in used_categories(read_annotations(file))}
    classes: dict[str, None] = {}
    found: list[AnnotatedImage] = []
    for file, split in files:
        annotations = read_annotations(file)
        spare = spare_categories(annotations, used, keep_parents=False)
        annotations = without_categories(annotations, spare, file)
        classes |= dict.fromkeys(annotations.class_names[1:])
        found += read_images(annotations, file, split, images, faults)
    return AnnotatedSet(list(classes), found)


def annotation_files(path: Path) -> list[tuple[Path, Split | None]]:
    """Return the annotation files of a set with their splits.

    Raises:
        DataError: If there are none, or it is unclear which one to read.
    """
    if path.is_file():
        return [(path, None)]
    roboflow = sorted([*path.glob(ROBOFLOW), *path.glob(f"*/{ROBOFLOW}")])
    if roboflow:
        return [(file, split_named(file.parent.name)) for file in roboflow]
    instances = sorted(path.glob(f"annotations/{INSTANCES}*.json"))
    if instances:
        return [(file, split_named(file.stem.removeprefix(INSTANCES))) for file in instances]
    if (path / LABEL_STUDIO).is_file():
        return [(path / LABEL_STUDIO, None)]
    others = sorted([*path.glob("*.json"), *path.glob("annotations/*.json")])
    if len(others) == 1:
        return [(others[0], None)]
    names = ", ".join(file.name for file in others[:5]) or "no JSON file"
    raise DataError(
        f"prepare.input={path}: it contains {names}; {EXPECTED}. Fix: prepare.input=FILE"
    )


def read_images(
    annotations: CocoAnnotations, file: Path, split: Split | None, images: Images, faults: Faults
) -> Iterator[AnnotatedImage]:
    """Yield the images of an annotation file."""
    outlines = read_outlines(file)
    near = relative(file.parent, images.folder)
    for number, encoded in enumerate(annotations.files.tolist()):
        given = os.fsdecode(encoded)
        name = images.find(given, near)
        if name is None:
            faults.add(
                f"images of {file.name} that do not exist",
                "expected them in the folder of the export. Fix: export with images, or fetch them",
                given,
            )
            continue
        height, width = annotations.sizes[number].tolist()
        rows = annotations.of(number)
        yield AnnotatedImage(
            name,
            images.folder / name,
            file,
            (height, width),
            split,
            objects=list(objects_of(annotations, rows, outlines, file, faults)),
        )


def read_outlines(file: Path) -> list[Any]:
    """Return the value of `segmentation` of every annotation; the file is valid JSON."""
    with collector_off():
        document = json.loads(read_text(file))
    return [entry.get("segmentation") for entry in document["annotations"]]


def objects_of(
    annotations: CocoAnnotations, rows: slice, outlines: Sequence[Any], file: Path, faults: Faults
) -> Iterator[AnnotatedObject]:
    """Yield the objects of an image."""
    for row in range(rows.start, rows.stop):
        entry = int(annotations.entries[row])
        left, top, width, height = annotations.boxes[row].tolist()
        try:
            polygons, runs = shape_of(outlines[entry])
        except (KeyError, TypeError, ValueError, OverflowError):
            faults.add(
                f"outlines of {file.name} that are neither polygons nor run lengths",
                "expected a list of polygons, each of at least 3 points, or size and counts",
                f"annotations[{entry}]",
            )
            continue
        yield AnnotatedObject(
            annotations.class_names[int(annotations.labels[row])],
            (left, top, left + width, top + height),
            polygons,
            runs,
            bool(annotations.is_crowd[row]),
        )


def shape_of(outline: Any) -> tuple[tuple[Polygon, ...], Runs | None]:
    """Return the polygons or the run lengths of an annotation; neither if it has only a box.

    Raises:
        ValueError: If a polygon has fewer than 3 points, or an odd number of coordinates.
    """
    if not outline:
        return (), None
    if isinstance(outline, Mapping):
        height, width = outline["size"]
        counts = outline["counts"]
        if not isinstance(counts, str):
            counts = [int(count) for count in counts]
        return (), {"size": [int(height), int(width)], "counts": counts}
    if not isinstance(outline[0], list):  # one polygon without a list around it
        outline = [outline]
    polygons = tuple(tuple(float(value) for value in polygon) for polygon in outline if polygon)
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon has fewer than 3 points")
    if not all(map(math.isfinite, (value for polygon in polygons for value in polygon))):
        raise ValueError("a polygon has coordinates that are no numbers")
    return polygons, None
