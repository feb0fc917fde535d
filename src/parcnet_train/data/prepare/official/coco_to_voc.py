"""Masks of VOC's 20 classes from COCO's objects (train2017, arXiv 1405.0312), by one of two rules.

`released` is the rule of the authors' release and of the framework it is based on. The first
annotation of the file that covers a pixel wins, crowds are objects, other categories are
background, and an image is left out if its mask has only one value.

With `later-on-top`, the last annotation that covers a pixel wins. Crowds and other categories are
ignored in training instead of being background. An image is left out if it shows none of the
classes.

Both rules leave out images of fewer than 256 pixels in height or width.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.prepare.sources import Folder, broken, refuse_missing
from parcnet_train.data.segmentation.palette import Mask
from parcnet_train.errors import DataError

Rule = Literal["released", "later-on-top"]
RULES: tuple[Rule, ...] = get_args(Rule)

ANNOTATIONS = "annotations/instances_train2017.json"
IMAGES = "train2017"
NAME = re.compile(r"\d{12}")

# Ids of COCO's categories in the order of VOC's classes, background first; released value.
CATEGORIES = (0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
CLASSES = {category: index for index, category in enumerate(CATEGORIES) if category}
SHORTEST = 256  # pixels; released value


@dataclass(frozen=True)
class CocoImage:
    """Image that contains objects of VOC's classes.

    Attributes:
        name: Name of the file without suffix.
        height: Height in pixels.
        width: Width in pixels.
        objects: Annotations of the image, in the order of the file.
    """

    name: str
    height: int
    width: int
    objects: list[Mapping[str, Any]]


def read_coco(folder: Path, count: int) -> list[CocoImage]:
    """Read the images that are large enough and contain an object of VOC's classes.

    Args:
        folder: Folder with `annotations/instances_train2017.json` and `train2017`.
        count: Expected number of images in the file.

    Raises:
        DataError: If the file does not exist, has another number of images, or an image that is
            needed does not exist.
    """
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; expected a folder of COCO 2017 with {ANNOTATIONS} and {IMAGES}"
        )
    objects: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    try:
        document = json.loads(path.read_bytes())
        for each in document["annotations"]:
            objects[each["image_id"]].append(each)
        of_voc = {k for k, v in objects.items() if any(o["category_id"] in CLASSES for o in v)}
        images = [
            CocoImage(
                each["file_name"].removesuffix(".jpg"),
                each["height"],
                each["width"],
                objects[each["id"]],
            )
            for each in document["images"]
            if each["id"] in of_voc and min(each["height"], each["width"]) >= SHORTEST
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it is not in COCO's format ({type(error).__name__}: {error})"
        raise broken(path, reason) from error
    if len(document["images"]) != count:
        raise broken(path, f"it has {len(document['images']):,} images (expected {count:,})")
    for image in images:
        if not NAME.fullmatch(image.name):
            raise broken(path, f"it names {image.name[:40]!r}, which is not an image of COCO 2017")
    refuse_missing(Folder(folder / IMAGES), [f"{image.name}.jpg" for image in images])
    return images


def make_mask(image: CocoImage, rule: Rule) -> Mask | None:
    """Create the mask of an image by a rule, `(H, W)`; None if the rule leaves the image out."""
    mask = np.zeros((image.height, image.width), np.uint8)
    for each in image.objects:
        index = CLASSES.get(each["category_id"], IGNORED)
        if rule == "later-on-top":
            mask[draw(each, image)] = IGNORED if each["iscrowd"] else index
        elif index != IGNORED:
            mask[draw(each, image) & (mask == 0)] = index
    if rule == "later-on-top":
        return mask if ((mask > 0) & (mask < IGNORED)).any() else None
    return mask if (mask != mask[0, 0]).any() else None


def draw(annotation: Mapping[str, Any], image: CocoImage) -> npt.NDArray[np.bool_]:
    """Return the pixels of an object, `(H, W)`: the union of polygons, or a crowd's run lengths."""
    from pycocotools import mask

    shape = annotation["segmentation"]
    if not shape:  # no polygon
        return np.zeros((image.height, image.width), np.bool_)
    runs = mask.frPyObjects(shape, image.height, image.width)
    return np.asarray(mask.decode(mask.merge(runs) if isinstance(shape, list) else runs), np.bool_)
