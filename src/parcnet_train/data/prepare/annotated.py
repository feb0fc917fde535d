"""Images with annotations, as every reader returns them and every writer takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import BACKGROUND_NAME
from parcnet_train.sizes import Size

Task = Literal["classification", "detection", "segmentation"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

IGNORE = "__ignore__"  # labelme's label of regions that do not count
BACKGROUNDS = (BACKGROUND_NAME, "_background_", "__background__")  # the last two are labelme's
SPECIAL = (IGNORE, *BACKGROUNDS)  # names of objects that are no classes; only masks show them

Box = tuple[float, float, float, float]  # left, top, right, bottom
Polygon = tuple[float, ...]  # x, y, x, y, ...
Runs = Mapping[str, Any]  # run lengths in COCO's format: size and counts

UNKNOWN = 256  # in `Palette.table`: a value that has no index


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of an image.

    Attributes:
        name: Name of its class.
        box: Left, top, right and bottom edge in pixels, counted from 0; shares of the image if
            `AnnotatedImage.is_relative`.
        polygons: Outlines of its parts, in the same unit; empty if it has none.
        runs: Mask as run lengths; None if it has none.
        is_crowd: Whether it is ignored: no training, no error in an evaluation.
    """

    name: str
    box: Box
    polygons: tuple[Polygon, ...] = ()
    runs: Runs | None = None
    is_crowd: bool = False

    @property
    def has_shape(self) -> bool:
        """Whether it has an outline or a mask, not only a box."""
        return bool(self.polygons) or self.runs is not None


@dataclass
class AnnotatedImage:
    """One image with its annotations.

    Attributes:
        name: Path of the image within the source, with slashes.
        file: Path of the image file; None if it is only embedded in its annotation file.
        annotation: Annotation file, for messages and for an embedded image.
        size: Height and width in pixels as shown (EXIF orientation applied). A reader sets what the
            annotation file declares, or None; `settle` sets what the image file has.
        split: Set that the image belongs to; None: the source does not say.
        label: Class of the whole image (classification).
        objects: Objects in the image.
        mask: File with the class of every pixel.
        mask_classes: Names of the classes in the mask; None until it is read.
        is_relative: Whether coordinates are shares of the image instead of pixels.
    """

    name: str
    file: Path | None
    annotation: Path | None = None
    size: Size | None = None
    split: Split | None = None
    label: str | None = None
    objects: list[AnnotatedObject] = field(default_factory=list)
    mask: Path | None = None
    mask_classes: set[str] | None = None
    is_relative: bool = False


@dataclass(frozen=True)
class Palette:
    """Meaning of the pixels of a set's masks.

    Attributes:
        indices: Class index, or `IGNORED`, of every value: of a color as 65536 * red + 256 * green
            + blue, or of a stored index.
        is_colored: Whether the masks contain colors instead of indices.
    """

    indices: Mapping[int, int]
    is_colored: bool

    @cached_property
    def table(self) -> npt.NDArray[np.uint16]:
        """Class index of every possible value, or `UNKNOWN`."""
        table = np.full(1 << 24 if self.is_colored else 1 << 8, UNKNOWN, np.uint16)
        table[list(self.indices)] = list(self.indices.values())
        return table


@dataclass
class AnnotatedSet:
    """All images of a source.

    Attributes:
        classes: Names of the classes in the order of their indices, without the background; of
            a set with masks, with the background.
        images: The images.
        palette: Meaning of the pixels of the masks; None: there are no masks.
    """

    classes: list[str]
    images: list[AnnotatedImage]
    palette: Palette | None = None

    @property
    def tasks(self) -> list[Task]:
        """Tasks for which the set has annotations."""
        if any(image.mask for image in self.images):
            return ["segmentation"]
        found: list[Task] = []
        if any(image.label is not None for image in self.images):
            found.append("classification")
        objects = [each for image in self.images for each in image.objects]
        if objects:
            found.append("detection")
        if any(each.has_shape for each in objects):
            found.append("segmentation")
        return found


def split_named(name: str) -> Split | None:
    """Return the split that a folder or a list is named after, such as `valid` or `train2017`."""
    plain = name.lower().strip().rstrip("0123456789").strip("_- ")
    found: dict[str, Split] = {
        **dict.fromkeys(("train", "training"), "train"),
        **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
        **dict.fromkeys(("test", "testing"), "test"),
    }
    return found.get(plain)
