"""VOC's layout, for `data=voc_format`.

    ROOT/JPEGImages/*    ROOT/SegmentationClass/*.png    ROOT/classes.txt
    ROOT/ImageSets/Segmentation/{train,val,test}.txt

Masks are drawn in the order of the source, so that a later object covers an earlier one. Crowds and
objects of the class `__ignore__` become 255, which is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from parcnet_train.data.batches import BACKGROUND, BACKGROUND_NAME, IGNORED
from parcnet_train.data.prepare.annotated import SPLITS, AnnotatedImage, AnnotatedSet
from parcnet_train.data.prepare.files import in_parallel
from parcnet_train.data.prepare.masks import indices_of
from parcnet_train.data.prepare.shapes import draw
from parcnet_train.data.prepare.sources import write_file, write_lines
from parcnet_train.data.segmentation.palette import Mask, encode_mask, read_mask, values_in
from parcnet_train.errors import DataError

COMMAND = "task=segmentation data=voc_format"
LISTS = "ImageSets/Segmentation"


def path_of(image: AnnotatedImage, name: str) -> str:
    """Return the path of an image below the root."""
    return f"JPEGImages/{name}"


def mask_path(root: Path, name: str) -> Path:
    """Return the path of the mask of an image."""
    return root / "SegmentationClass" / f"{Path(name).stem}.png"


def class_names(found: AnnotatedSet) -> list[str]:
    """Return the names of all classes, index 0 first; masks of a source have them all."""
    has_masks = any(image.mask for image in found.images)
    return found.classes if has_masks else [BACKGROUND_NAME, *found.classes]


def mask_of(image: AnnotatedImage, found: AnnotatedSet) -> Mask:
    """Return the mask of an image, `(H, W)`, class indices.

    Raises:
        DataError: If its mask or one of its objects does not fit.
    """
    assert image.size is not None
    if image.mask is not None:
        assert found.palette is not None
        return indices_of(image, found.palette)
    mask = np.full(image.size, BACKGROUND, np.uint8)
    index_of = {name: index for index, name in enumerate(class_names(found))}
    for shape in image.objects:
        try:
            drawn = draw(shape, image.size)
        except Exception as error:  # pycocotools raises nearly anything
            raise DataError(f"{image.name}: {shape.name} cannot be drawn ({error})") from error
        mask[drawn] = IGNORED if shape.is_crowd else index_of[shape.name]
    return mask


def write(root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
    """Write the masks that do not exist yet, the lists and the names of the classes.

    Args:
        root: Folder to write to; the images are already there.
        found: Set to write.
        names: File name of each image.

    Raises:
        DataError: If a mask cannot be made.
    """
    missing = [
        (image, mask_path(root, name))
        for image, name in zip(found.images, names, strict=True)
        if not mask_path(root, name).is_file()
    ]

    def make(item: tuple[AnnotatedImage, Path]) -> None:
        image, path = item
        write_file(path, encode_mask(mask_of(image, found)))

    for result in in_parallel(make, missing, "masks"):
        if isinstance(result, DataError):
            raise result
    write_lines(root / "classes.txt", class_names(found))
    for split in SPLITS:
        listed = [
            Path(name).stem
            for image, name in zip(found.images, names, strict=True)
            if image.split == split
        ]
        if listed:
            write_lines(root / LISTS / f"{split}.txt", listed)


def verify(root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
    """Read every mask, and check its size and its classes.

    Raises:
        DataError: For the first mask that does not fit.
    """
    count = len(class_names(found))

    def look(item: tuple[AnnotatedImage, str]) -> None:
        image, name = item
        assert image.size is not None
        path = mask_path(root, name)
        mask = read_mask(path)
        others = [value for value in values_in(mask) if value >= count and value != IGNORED]
        if mask.shape != image.size or others:
            raise DataError(
                f"{path} has {mask.shape[1]}x{mask.shape[0]} pixels and the values {others[:3]} "
                f"beside the {count} classes; expected {image.size[1]}x{image.size[0]} pixels of "
                "these classes"
            )

    for result in in_parallel(look, list(zip(found.images, names, strict=True)), "masks verified"):
        if isinstance(result, DataError):
            raise result
