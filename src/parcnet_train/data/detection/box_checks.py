"""Boxes that do not fit their images, and areas that do not fit their boxes.

Such boxes train without a word: they are cut off at the edges of the image. Slight overhangs are
common in real sets, as are boxes of the whole of an object of which the image shows a part, so a
box is reported if less than half of it lies in the image.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.dataset import visible_boxes
from parcnet_train.errors import DataError

log = logging.getLogger(__name__)

LEAST_INSIDE = 0.5  # share of a box
# Masks are drawn in whole pixels: their area may exceed that of a narrow box.
MOST_OF_BOX, MARGIN = 1.5, 2.0

Marks = npt.NDArray[np.bool_]


def check_boxes(annotations: CocoAnnotations, file: Path) -> None:
    """Compares boxes with the sizes of their images, and warns of those that do not fit.

    Args:
        annotations: Annotations of a set.
        file: File that holds them, for messages.

    Raises:
        DataError: If there are boxes of objects, and none of them can be used.
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


def check_areas(annotations: CocoAnnotations, file: Path) -> None:
    """Warns of areas by which an evaluation would take objects for small or large wrongly.

    Args:
        annotations: Annotations of a validation set; the area of an object is at most its box's.
        file: File that holds them, for messages.
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
        "%s: %s of its %s areas %s: %s, area=%g; map_small, map_medium and map_large go by them; "
        "expected the pixels of the object, or no 'area' at all for those of the box",
        file,
        f"{wrong.sum():,}",
        f"{len(wrong):,}",
        problem,
        describe(annotations, wrong),
        areas[first_of(annotations, wrong)],
    )


def misfits_of(annotations: CocoAnnotations) -> Marks:
    """`(m,)`: which boxes of objects do not fit their images; those without area are left out."""
    shares = shares_inside(annotations.boxes, image_sizes(annotations))
    return ((shares < LEAST_INSIDE) | in_first_pixel(annotations)) & ~annotations.is_crowd


def in_first_pixel(annotations: CocoAnnotations) -> Marks:
    """`(m,)`: which boxes have an area and lie in the first pixel, as shares of an image would."""
    begins, lengths = annotations.boxes[:, :2], annotations.boxes[:, 2:]
    inside = (begins >= 0) & (lengths > 0) & (begins <= 1) & (lengths <= 1)
    inside &= image_sizes(annotations) > MARGIN
    return np.logical_and(inside[:, 0], inside[:, 1])


def image_sizes(annotations: CocoAnnotations) -> npt.NDArray[np.float64]:
    """`(m, 2)`: width and height of the image of each box."""
    counts = np.diff(annotations.starts)
    return np.repeat(annotations.sizes[:, ::-1].astype(np.float64), counts, axis=0)


def shares_inside(
    boxes: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """`(m,)`: share of the area of each box that lies in its image; 1 for a box without area."""
    begins, lengths = boxes[:, :2], boxes[:, 2:]
    with np.errstate(over="ignore"):  # of sizes that no image has
        inside = np.minimum(begins + lengths, sizes) - begins.clip(min=0)
    shares: npt.NDArray[np.float64] = np.divide(
        inside.clip(min=0), lengths, out=np.ones_like(lengths), where=lengths > 0
    ).prod(axis=1)
    shares[(lengths <= 0).any(axis=1)] = 1
    return shares


def first_of(annotations: CocoAnnotations, wrong: Marks) -> int:
    """Which of the wrong boxes is the first one in the file."""
    rows = np.flatnonzero(wrong)
    return int(rows[annotations.entries[rows].argmin()])


def describe(annotations: CocoAnnotations, wrong: Marks) -> str:
    """The first wrong entry of the file, in words."""
    row = first_of(annotations, wrong)
    image = int(np.searchsorted(annotations.starts, row, side="right")) - 1
    height, width = annotations.sizes[image].tolist()
    box = ", ".join(f"{number:.6g}" for number in annotations.boxes[row])
    return (
        f"first annotations[{annotations.entries[row]}] (image_id {annotations.image_ids[image]}, "
        f"{os.fsdecode(annotations.files[image])}, {width}x{height} pixels): bbox=[{box}]"
    )


def likely_cause(annotations: CocoAnnotations, wrong: Marks) -> str:
    """What may be wrong with boxes, and what is expected.

    Args:
        annotations: Annotations of the set.
        wrong: Boxes that cannot be used, or do not fit.
    """
    expected = "expected [left, top, width, height] in pixels"
    sizes, boxes = image_sizes(annotations), annotations.boxes
    has_area = (boxes[:, 2:] > 0).all(axis=1) & ~annotations.is_crowd
    if not has_area[wrong].any():
        return f"they have no width or no height; {expected}"
    if in_first_pixel(annotations)[wrong].all():
        return (
            f"they look like shares of the image, 0 to 1; {expected}. Fix: multiply them by the "
            "width and the height of the image"
        )
    begins, lengths = boxes[has_area, :2], boxes[has_area, 2:]
    # No right edge lies left of a left one; of widths and heights, many are less than left and top.
    if (
        (lengths >= begins).all()
        and (lengths <= 2 * sizes[has_area]).all()
        and (begins > 0).all(axis=1).mean() > 0.5
    ):
        return (
            f"they look like corners, [left, top, right, bottom]; {expected}. Fix: subtract left "
            "from right, and top from bottom"
        )
    if (shares_inside(boxes[wrong], sizes[wrong, ::-1]) >= LEAST_INSIDE).all():
        return (
            "they would fit if width and height of their images were exchanged; the sizes may be "
            f"those of photos before their header turns them; {expected}"
        )
    return f"they may be those of the image at another size; {expected}"
