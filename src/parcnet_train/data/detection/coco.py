"""Annotations in COCO's JSON format, read once into flat arrays."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import BACKGROUND_NAME
from parcnet_train.data.detection.coco_entries import Entries, parse
from parcnet_train.data.near_files import hint
from parcnet_train.errors import DataError, reason_of

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_PIXELS = 2**31


@dataclass(frozen=True)
class CocoAnnotations:
    """Images and boxes of one annotation file, exactly as it has them, crowds too.

    Flat arrays: Python objects per box would be copied into every loader process bit by bit.

    Attributes:
        class_names: the background first, then the categories in the order of their ids.
        category_ids: `(K,)` int64, id of each class in the file; -1 for the background.
        is_parent: `(K,)` bool, whether another category has it as its supercategory.
        files: `(n,)` bytes, names of the image files.
        image_ids: `(n,)` int64.
        sizes: `(n, 2)` int64, height and width of the images in pixels.
        starts: `(n + 1,)` int64; boxes of image i: from `starts[i]` to before `starts[i + 1]`.
        boxes: `(m, 4)` float64, left, top, width, height, in pixels of the original image.
        labels: `(m,)` int64, class indices from 1.
        areas: `(m,)` float64, of the object, in pixels: chooses small, medium or large.
        is_crowd: `(m,)` bool.
        entries: `(m,)` int64, positions of the boxes in the file's list of annotations.
    """

    class_names: list[str]
    category_ids: npt.NDArray[np.int64]
    is_parent: npt.NDArray[np.bool_]
    files: npt.NDArray[np.bytes_]
    image_ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    is_crowd: npt.NDArray[np.bool_]
    entries: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    def of(self, image: int) -> slice:
        """Where the boxes of an image are."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))


def read_annotations(file: Path) -> CocoAnnotations:
    """Reads a file of annotations, unless it was read before and is the same since.

    Args:
        file: COCO's JSON, of which images (id, file_name, height, width), annotations (image_id,
            category_id, bbox, area, iscrowd) and categories (id, name) are read. Without `area` it
            is that of the box, without `iscrowd` it is no crowd.

    Raises:
        DataError: where it is no such file, with the entry that is not as it should be.
    """
    try:
        status = file.stat()
        return _read(file, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({reason_of(error)}{hint(file.parent, file.name)}); allowed is "
            "a file of annotations in COCO's format; set data.root, data.train_annotations, "
            "data.val_annotations"
        ) from error


@functools.lru_cache(maxsize=2)  # of a training and of its validation
def _read(file: Path, changed: int, size: int) -> CocoAnnotations:
    document = parse(file)
    images, annotations, categories = (
        Entries(file, name, document[name]) for name in ("images", "annotations", "categories")
    )
    class_names, category_ids, is_parent = read_categories(categories)
    files, image_ids, sizes = read_images(images)
    owners = annotations.positions("image_id", image_ids, "images")
    # The background is no category: no id of the file may meet its place.
    labels = annotations.positions("category_id", category_ids[1:], "categories") + 1
    boxes, areas, is_crowd = read_boxes(annotations)
    order = np.argsort(owners, kind="stable")
    return CocoAnnotations(
        class_names,
        category_ids,
        is_parent,
        files,
        image_ids,
        sizes,
        np.searchsorted(owners[order], np.arange(len(files) + 1)),
        boxes[order],
        labels[order],
        areas[order],
        is_crowd[order],
        order,
    )


def read_categories(categories: Entries) -> tuple[list[str], Integers, npt.NDArray[np.bool_]]:
    """Names, ids, and which are supercategories of others; the background, then by id."""
    ids, names = categories.ids(), categories.texts("name")
    supers = [repr(entry.get("supercategory")) for entry in categories.entries]
    supers_of_all = set(supers)
    # A category that is its own supercategory, as COCO's persons are, is no root.
    is_parent = [
        repr(name) in supers_of_all and above != repr(name)
        for name, above in zip(names, supers, strict=True)
    ]
    order = np.argsort(ids)
    return (
        [BACKGROUND_NAME, *(names[i] for i in order)],
        np.array([-1, *ids[order]]),
        np.array([False, *(is_parent[i] for i in order)]),
    )


def read_images(images: Entries) -> tuple[npt.NDArray[np.bytes_], Integers, Integers]:
    """Names of the files, ids, and heights and widths."""
    sizes = np.stack([images.integers("height"), images.integers("width")], axis=1)
    images.refuse(sizes <= 0, ("height", "width"), "both are to be at least 1 pixel")
    images.refuse(
        sizes.astype(np.float64).prod(axis=1) > MOST_PIXELS,
        ("height", "width"),
        "an image may have up to 2^31 pixels",
    )
    files = [os.fsencode(name) for name in images.texts("file_name")]
    return np.array(files), images.ids(), sizes


def read_boxes(annotations: Entries) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Boxes, areas, and whether they are of crowds."""
    boxes = annotations.numbers("bbox", (4,))
    annotations.refuse(
        boxes[:, 2:] < 0,
        ("bbox",),
        "[left, top, width, height] is to have a width and a height of at least 0",
    )
    areas = annotations.numbers("area", default=-1.0)
    given = annotations.have("area")
    annotations.refuse(given & (areas < 0), ("area",), "an area is at least 0")
    with np.errstate(over="ignore"):
        areas = np.where(given, areas, boxes[:, 2] * boxes[:, 3])
    return boxes, areas, annotations.numbers("iscrowd", default=0.0) != 0
