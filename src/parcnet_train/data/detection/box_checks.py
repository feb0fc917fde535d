"""Checks for boxes that do not fit their images and for areas that do not fit their boxes.

Wrong boxes go unnoticed in a training, because boxes are clipped to the image. Real data sets often
contain boxes that extend slightly beyond the image, or that cover a whole object of which the image
shows only a part. Therefore a box is reported if less than half of it lies within the image.
"""

from __future__ import annotations

import logging
import os

import numpy as np
import numpy.typing as npt

from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.dataset import visible_boxes
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError

log = logging.getLogger(__name__)

LEAST_INSIDE = 0.5  # smallest share of a box's area within the image
# Masks consist of whole pixels, so their area may exceed that of a narrow box.
MOST_OF_BOX, MARGIN = 1.5, 2.0
# Shares of boxes that are corners: least share with the order of corners, and least share that
# reaches beyond the image if it is read as [left, top, width, height].
CORNERS, BEYOND = 0.99, 0.1

Marks = npt.NDArray[np.bool_]


def check_boxes(annotations: CocoAnnotations, file: AnyPath) -> None:
    """Compare boxes with the sizes of their images, and warn about those that do not fit.

    Args:
        annotations: Annotations of a data set.
        file: File of the annotations, for messages.

    Raises:
        DataError: If there are boxes of objects, but none of them can be used.
    """
    misfits = misfits_of(annotations)
    usable = visible_boxes(annotations)[1] & ~in_first_pixel(annotations)
    objects = ~annotations.is_crowd
    if objects.any() and not usable.any():
        wrong = misfits if misfits.any() else objects
        raise DataError(
            f"{file}: none of its {objects.sum():,} boxes can be used: "
            f"{describe(annotations, wrong)}; {likely_cause(annotations, wrong)}"
        )
    if misfits.any():
        log.warning(
            "%s: %s of its %s boxes do not fit their images: %s; %s",
            file,
            f"{misfits.sum():,}",
            f"{len(misfits):,}",
            describe(annotations, misfits),
            likely_cause(annotations, misfits),
        )


def check_areas(annotations: CocoAnnotations, file: AnyPath) -> None:
    """Warn about areas that would put objects into the wrong size class of an evaluation.

    Args:
        annotations: Annotations of a validation set; an object's area is at most that of its box.
        file: File of the annotations, for messages.
    """
    lengths, areas = annotations.boxes[:, 2:], annotations.areas
    plausible = (lengths > 0).all(axis=1) & ~annotations.is_crowd & ~misfits_of(annotations)
    if not plausible.any():
        return
    with np.errstate(over="ignore"):
        of_boxes = lengths.prod(axis=1)
        wrong = plausible & (areas > MOST_OF_BOX * (lengths + MARGIN).prod(axis=1))
    of_images = image_sizes(annotations).prod(axis=1)
    if wrong.any():
        of_image = np.isclose(areas[wrong], of_images[wrong], rtol=0.01).all()
        problem = "are those of the whole image" if of_image else "are larger than their boxes"
    elif (areas[plausible] <= 1).all() and (of_boxes[plausible] > (MARGIN + 1) ** 2).any():
        wrong, problem = plausible, "are at most 1 pixel"
    else:
        return
    log.warning(
        "%s: %s of its %s areas %s: %s, area=%g; map_small, map_medium and map_large depend on "
        "them; expected the number of pixels of each object. Fix: correct the areas, or remove "
        "'area' to use the areas of the boxes",
        file,
        f"{wrong.sum():,}",
        f"{len(wrong):,}",
        problem,
        describe(annotations, wrong),
        areas[first_of(annotations, wrong)],
    )


def misfits_of(annotations: CocoAnnotations) -> Marks:
    """Mark the boxes of objects that do not fit their images, `(m,)`, except empty boxes."""
    shares = shares_inside(annotations.boxes, image_sizes(annotations))
    return ((shares < LEAST_INSIDE) | in_first_pixel(annotations)) & ~annotations.is_crowd


def in_first_pixel(annotations: CocoAnnotations) -> Marks:
    """Mark the boxes within the first pixel, which may be relative, `(m,)`, except empty boxes."""
    begins, lengths = annotations.boxes[:, :2], annotations.boxes[:, 2:]
    inside = (begins >= 0) & (lengths > 0) & (begins <= 1) & (lengths <= 1)
    inside &= image_sizes(annotations) > MARGIN
    return np.logical_and(inside[:, 0], inside[:, 1])


def image_sizes(annotations: CocoAnnotations) -> npt.NDArray[np.float64]:
    """Return width and height of the image of each box, `(m, 2)`."""
    return annotations.sizes[:, ::-1].astype(np.float64)[annotations.owners]


def shares_inside(
    boxes: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the share of each box's area within its image, `(m,)`; 1 for a box without area."""
    begins, lengths = boxes[:, :2], boxes[:, 2:]
    with np.errstate(over="ignore"):  # boxes of absurd size
        inside = np.minimum(begins + lengths, sizes) - begins.clip(min=0)
    shares: npt.NDArray[np.float64] = np.divide(
        inside.clip(min=0), lengths, out=np.ones_like(lengths), where=lengths > 0
    ).prod(axis=1)
    shares[(lengths <= 0).any(axis=1)] = 1
    return shares


def first_of(annotations: CocoAnnotations, wrong: Marks) -> int:
    """Return the position of the wrong box that comes first in the file."""
    rows = np.flatnonzero(wrong)
    return int(rows[annotations.entries[rows].argmin()])


def describe(annotations: CocoAnnotations, wrong: Marks) -> str:
    """Describe the first wrong entry of the file."""
    row = first_of(annotations, wrong)
    image = int(np.searchsorted(annotations.starts, row, side="right")) - 1
    height, width = annotations.sizes[image].tolist()
    box = ", ".join(f"{number:.6g}" for number in annotations.boxes[row])
    return (
        f"first annotations[{annotations.entries[row]}] (image_id {annotations.image_ids[image]}, "
        f"{os.fsdecode(annotations.files[image])}, {width}x{height} pixels): bbox=[{box}]"
    )


def look_like_corners(annotations: CocoAnnotations, least: int = 1) -> bool:
    """Return whether the boxes of a set look like `[left, top, right, bottom]`.

    A right edge is never left of the left edge, while a width is often smaller than the left edge.
    Read as widths, right edges lead beyond the image, which tells corners from large objects near
    the top left of their images.

    Args:
        annotations: Annotations of the data set.
        least: Number of boxes, not at the left or top edge, below which none are called corners.
    """
    boxes, sizes = annotations.boxes, image_sizes(annotations)
    objects = (boxes[:, 2:] > 0).all(axis=1) & ~annotations.is_crowd
    inside = objects & (boxes[:, :2] > 0).all(axis=1)
    if inside.sum() < least or inside.sum() <= 0.5 * objects.sum():
        return False
    begins, lengths, sizes = boxes[inside, :2], boxes[inside, 2:], sizes[inside]
    is_corner = ((lengths >= begins) & (lengths <= 2 * sizes)).all(axis=1)
    is_beyond = (begins + lengths > sizes).any(axis=1)
    return bool(is_corner.mean() >= CORNERS and is_beyond.mean() > BEYOND)


def likely_cause(annotations: CocoAnnotations, wrong: Marks) -> str:
    """Describe what may be wrong with boxes, and what is expected.

    Args:
        annotations: Annotations of the data set.
        wrong: Marks of the boxes that cannot be used or do not fit.
    """
    expected = "expected [left, top, width, height] in pixels"
    sizes, boxes = image_sizes(annotations), annotations.boxes
    has_area = (boxes[:, 2:] > 0).all(axis=1) & ~annotations.is_crowd
    if not has_area[wrong].any():
        return f"they have no width or no height; {expected}"
    if in_first_pixel(annotations)[wrong].all():
        return (
            f"they look like relative coordinates, 0 to 1; {expected}. Fix: multiply them by the "
            "width and the height of the image"
        )
    if look_like_corners(annotations):
        return (
            f"they look like corners, [left, top, right, bottom]; {expected}. Fix: subtract left "
            "from right, and top from bottom"
        )
    if (shares_inside(boxes[wrong], sizes[wrong, ::-1]) >= LEAST_INSIDE).all():
        return (
            "they would fit if width and height of their images were swapped; the sizes may be "
            f"those of photos without their EXIF orientation; {expected}"
        )
    return f"they may belong to the image at another size; {expected}"
