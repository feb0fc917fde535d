"""Annotations in COCO's JSON format, read into flat arrays."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import BACKGROUND_NAME
from parcnet_train.data.detection.coco_entries import Entries, parse
from parcnet_train.data.near_files import hint
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, reason_of

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_PIXELS = 2**31


@dataclass(frozen=True)
class CocoAnnotations:
    """All images and boxes of one annotation file, unchanged and including crowds.

    The arrays are flat: loader processes would gradually copy Python objects per box into their own
    memory.

    Attributes:
        class_names: Names of the classes: the background, then the categories in the order of their
            ids.
        category_ids: Id of each class in the file, `(K,)` int64; -1 for the background.
        is_parent: Whether a class is the supercategory of another one, `(K,)` bool.
        files: Names of the image files, `(n,)` bytes.
        image_ids: Ids of the images, `(n,)` int64.
        sizes: Height and width of the images in pixels, `(n, 2)` int64.
        starts: Ranges of boxes, `(n + 1,)` int64; the boxes of image i are `starts[i]` up to but
            not including `starts[i + 1]`.
        boxes: Left, top, width and height in pixels of the original image, `(m, 4)` float64.
        labels: Class indices from 1, `(m,)` int64.
        areas: Areas of the objects in pixels, `(m,)` float64, by which metrics distinguish small,
            medium and large.
        is_crowd: Whether a box is a crowd, `(m,)` bool.
        entries: Positions of the boxes in the file's list of annotations, `(m,)` int64.
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

    @property
    def owners(self) -> Integers:
        """Position of the image of every box, `(m,)` int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def of(self, image: int) -> slice:
        """Return the range of an image's boxes."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))


def read_annotations(file: AnyPath) -> CocoAnnotations:
    """Read an annotation file; cached until the file changes.

    Args:
        file: COCO's JSON. It must contain images (id, file_name, height, width), annotations
            (image_id, category_id, bbox, area, iscrowd) and categories (id, name). A missing `bbox`
            is that of the polygons or run lengths in `segmentation`, a missing `area` that of the
            box; without `iscrowd`, an annotation is not a crowd.

    Raises:
        DataError: If the file is not in this format; the message names the invalid entry.
    """
    try:
        status = file.stat()
        return _read(file, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({reason_of(error)}{hint(file.parent, file.name)}); expected "
            "an annotation file in COCO's format. Fix: set data.root, data.train_annotations, "
            f"data.val_annotations or data.test_annotations{way_from_voc(file.parent.parent)}"
        ) from error


def way_from_voc(root: AnyPath) -> str:
    """Return how to convert a data set that has VOC's XML files; empty if it has none there."""
    if next((root / "Annotations").glob("*.xml"), None) is None:
        return ""
    return (
        f"; {root / 'Annotations'} has XML files, which action=prepare prepare.source=voc_xml "
        f"prepare.input={root} prepare.output=READY converts"
    )


@functools.lru_cache(maxsize=3)  # training, validation and test set
def _read(file: AnyPath, changed: int, size: int) -> CocoAnnotations:
    document = parse(file)
    images, annotations, categories = (
        Entries(file, name, document[name]) for name in ("images", "annotations", "categories")
    )
    class_names, category_ids, is_parent = read_categories(categories)
    files, image_ids, sizes = read_images(images)
    owners = annotations.positions("image_id", image_ids, "images")
    # The background is not a category: no id in the file may match its -1.
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
    """Return class names, ids and supercategory marks: first the background, then sorted by id."""
    ids, names = categories.ids(), categories.texts("name")
    supers = [repr(entry.get("supercategory")) for entry in categories.entries]
    supers_of_all = set(supers)
    # A category that is its own supercategory, such as COCO's person, is not a root.
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
    """Return the file names, ids and sizes (height, width) of the images."""
    sizes = np.stack([images.integers("height"), images.integers("width")], axis=1)
    images.refuse(sizes <= 0, ("height", "width"), "expected at least 1 pixel each")
    images.refuse(
        sizes.astype(np.float64).prod(axis=1) > MOST_PIXELS,
        ("height", "width"),
        "expected at most 2^31 pixels in an image",
    )
    files = [os.fsencode(name) for name in images.texts("file_name")]
    return np.array(files), images.ids(), sizes


def read_boxes(annotations: Entries) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return boxes, areas and crowd marks."""
    boxes = annotations.numbers("bbox", (4,))
    annotations.refuse(
        boxes[:, 2:] < 0,
        ("bbox",),
        "expected [left, top, width, height] with a width and a height of at least 0",
    )
    areas = annotations.numbers("area", default=-1.0)
    given = annotations.have("area")
    annotations.refuse(given & (areas < 0), ("area",), "expected an area of at least 0")
    with np.errstate(over="ignore"):
        areas = np.where(given, areas, boxes[:, 2] * boxes[:, 3])
    return boxes, areas, annotations.numbers("iscrowd", default=0.0) != 0
