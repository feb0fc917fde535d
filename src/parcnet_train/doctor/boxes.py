"""Findings about the boxes of a COCO data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from parcnet_train.data.detection.box_checks import (
    LEAST_INSIDE,
    MARGIN,
    MOST_OF_BOX,
    image_sizes,
    in_first_pixel,
    likely_cause,
    look_like_corners,
    misfits_of,
)
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.dataset import visible_boxes
from parcnet_train.data.file_checks import SHOWN
from parcnet_train.doctor.findings import Drawing, Finding, share
from parcnet_train.doctor.images import Limits, Read
from parcnet_train.doctor.pictures import MOST, SIDE, draw, image_of
from parcnet_train.errors import printable
from parcnet_train.visualize.detections import draw_boxes

Marks = npt.NDArray[np.bool_]
Boxes = npt.NDArray[np.float64]

BEYOND = 2.0  # pixels by which boxes may reach beyond the image: rounding, and edges of objects
TINY = 4.0  # side of a square of a tiny box's area at the input, in pixels
SAME = 0.9  # IoU of boxes that are one object
MOST_BOXES = 100  # detections per image that COCO's metrics count
LEAST_OF_BOX = 0.05  # share of its box that an object fills at least
SURE = 20  # boxes from which a pattern in all of them is no accident


def box_findings(read: Read, limits: Limits, keep_aspect: bool) -> Iterator[Finding]:
    """Yield the findings about the boxes of a set."""
    found = Found(read, limits)
    annotations = found.annotations
    if not len(annotations.boxes):
        return
    objects = ~annotations.is_crowd
    lengths = annotations.boxes[:, 2:]
    empty = objects & (lengths < 1).any(axis=1) & ~in_first_pixel(annotations)
    yield from found.finding(
        "box-degenerate",
        "Boxes narrower than one pixel",
        empty,
        "are less than one pixel wide or high. A training leaves out those without any area.",
        "Remove them, or draw the boxes again.",
    )
    corners = look_like_corners(annotations, SURE)
    yield from coordinates(found, empty, corners)
    usable = objects & ~empty & ~misfits_of(annotations)
    yield from found.finding(
        "box-tiny",
        f"Boxes that are tiny at {limits.size[1]}x{limits.size[0]}",
        usable & (sides_at_input(annotations, limits.size, keep_aspect) < TINY),
        f"have less area at the network's input than a square of {TINY:g} pixels, which no anchor "
        "fits and no network of this kind finds.",
        "Train with a larger recipe.image_size, cut the images into tiles, or remove these boxes.",
    )
    same, crossed, partners = duplicate_boxes(annotations)
    yield from found.finding(
        "box-duplicate",
        "Objects with two boxes",
        same,
        f"overlap an earlier box of the same class with an IoU above {SAME:g}. One of the two "
        "counts as missed in the metrics.",
        "Remove one of the two boxes.",
        partners=partners,
    )
    yield from found.finding(
        "box-two-classes",
        "Objects with two classes",
        crossed,
        f"overlap an earlier box of another class with an IoU above {SAME:g}.",
        "Decide on one class, unless the classes overlap by definition.",
        partners=partners,
    )
    yield from areas(found, usable if not corners else np.zeros_like(usable))
    yield from crowded(found)
    yield from without_boxes(found)


class Found:
    """Boxes of a set, and the findings about some of them.

    Args:
        read: Set with its annotations.
        limits: Settings of the data module.
    """

    def __init__(self, read: Read, limits: Limits) -> None:
        assert read.images.annotations is not None
        self.images, self.limits = read.images, limits
        self.annotations = read.images.annotations
        self.owners = self.annotations.owners

    def finding(
        self,
        kind: str,
        title: str,
        marks: Marks,
        words: str,
        fix: str,
        note: Callable[[int], str] | None = None,
        partners: npt.NDArray[np.int64] | None = None,
    ) -> Iterator[Finding]:
        """Yield the finding about marked boxes, if there are any."""
        rows = np.flatnonzero(marks)
        if not len(rows):
            return
        yield Finding(
            kind,
            "warning",
            title,
            len(rows),
            "boxes",
            f"{len(rows):,} of the {len(marks):,} boxes ({share(len(rows), len(marks))}) {words}",
            fix,
            [
                self.described(row) + (f"; {note(row)}" if note else "")
                for row in rows[:SHOWN].tolist()
            ],
            self.pictures(rows.tolist() if partners is None else between(partners, rows), title),
            where=f"{self.images.title} set",
        )

    def described(self, row: int) -> str:
        """Describe a box: its file, its position in the annotations, class and coordinates."""
        known = self.annotations
        owner = int(self.owners[row])
        height, width = known.sizes[owner].tolist()
        box = ", ".join(f"{number:.6g}" for number in known.boxes[row])
        return (
            f"{printable(os.fsdecode(known.files[owner]))} ({width}x{height}): "
            f"annotations[{known.entries[row]}], {known.class_names[known.labels[row]]}, "
            f"bbox=[{box}]"
        )

    def pictures(self, rows: list[int], alt: str) -> list[Drawing]:
        """Draw the first boxes on their images.

        Args:
            rows: Positions of the boxes.
            alt: Description of the pictures.
        """
        known = self.annotations
        corners = np.concatenate(
            [known.boxes[:, :2], known.boxes[:, :2] + known.boxes[:, 2:]], axis=1
        )
        shown = []
        for owner in dict.fromkeys(int(self.owners[row]) for row in rows[: 4 * SHOWN]):
            image = image_of(self.images, owner, self.limits.max_pixels)
            if image is None:
                continue
            of_image = [row for row in rows if self.owners[row] == owner][:SHOWN]
            labels = [int(known.labels[row]) for row in of_image]
            names = [known.class_names[label] for label in labels]
            picture = draw_boxes(image, corners[of_image], labels, names)
            name = self.images.name(owner)
            shown.append(draw(picture, name, f"{alt}: {name}, {', '.join(names)}", 2 * SIDE))
            if len(shown) == MOST:
                break
        return shown


def coordinates(found: Found, empty: Marks, corners: bool) -> Iterator[Finding]:
    """Yield boxes in other units, boxes outside of their images, and boxes that reach beyond."""
    annotations = found.annotations
    relative = in_first_pixel(annotations) & ~annotations.is_crowd
    yield from found.finding(
        "box-relative",
        "Boxes that look like shares of the image",
        relative,
        "lie within the first pixel; they may be given as shares of the image, 0 to 1.",
        "Multiply them by the width and the height of the image; expected [left, top, width, "
        "height] in pixels.",
    )
    if corners:
        yield from found.finding(
            "box-corners",
            "Boxes that look like corners",
            ~annotations.is_crowd,
            "have a third number above the first and a fourth above the second, and many reach "
            "beyond their images if these are width and height. They look like [left, top, right, "
            "bottom].",
            "Subtract left from right, and top from bottom; expected [left, top, width, height].",
        )
        return
    misfits = misfits_of(annotations) & ~relative
    cause = likely_cause(annotations, misfits) if misfits.any() else ""
    yield from found.finding(
        "box-outside",
        "Boxes outside of their images",
        misfits,
        f"have less than {100 * LEAST_INSIDE:.0f} % of their area within their image; {cause}.",
        "Correct the boxes, or the sizes of the images in the annotations.",
    )
    begins, lengths = annotations.boxes[:, :2], annotations.boxes[:, 2:]
    over = np.maximum(-begins, begins + lengths - image_sizes(annotations)).max(axis=1)
    beyond = (over > BEYOND) & ~misfits & ~relative & ~annotations.is_crowd & ~empty
    yield from found.finding(
        "box-beyond",
        "Boxes that reach beyond their images",
        beyond,
        f"reach more than {BEYOND:g} pixels beyond the edge; a training clips them.",
        "Clip them to the image, if the tool that drew them should have done so.",
        lambda row: f"{over[row]:.0f} pixels beyond",
    )


def sides_at_input(
    annotations: CocoAnnotations, size: tuple[int, int], keep_aspect: bool
) -> npt.NDArray[np.float64]:
    """Return the side of a square with the area of each box at the network's input, in pixels."""
    scales = np.array(size[::-1]) / image_sizes(annotations)
    if keep_aspect:
        scales = np.repeat(scales.min(axis=1, keepdims=True), 2, axis=1)
    with np.errstate(over="ignore"):
        sides: npt.NDArray[np.float64] = np.sqrt(
            (annotations.boxes[:, 2:].clip(min=0) * scales).prod(axis=1)
        )
    return sides


def duplicate_boxes(
    annotations: CocoAnnotations,
) -> tuple[Marks, Marks, npt.NDArray[np.int64]]:
    """Mark boxes that are the same object as an earlier box of their image.

    Returns:
        Marks of those with the same class, of those with another class, and the position of the
        earlier box of each.
    """
    boxes, is_object = visible_boxes(annotations)
    rows = np.flatnonzero(is_object)
    owners = annotations.owners[rows]
    boxes, labels = boxes[rows], annotations.labels[rows]
    same, crossed = (np.zeros(len(is_object), np.bool_) for _ in range(2))
    partners = np.full(len(is_object), -1)
    left = np.arange(len(rows) - 1)
    for offset in range(1, int(np.diff(annotations.starts).max(initial=0))):
        left = left[left < len(rows) - offset]
        left = left[owners[left] == owners[left + offset]]
        if not len(left):
            break
        near = left[paired_iou(boxes[left], boxes[left + offset]) > SAME]
        later = near + offset
        partners[rows[later]] = rows[near]
        is_same = labels[near] == labels[later]
        same[rows[later[is_same]]] = True
        crossed[rows[later[~is_same]]] = True
    return same, crossed & ~same, partners


def between(partners: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> list[int]:
    """Return some boxes, each followed by its partner."""
    return np.stack([rows, partners[rows]], axis=1).ravel().tolist()


def paired_iou(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """Return the IoU of each box with the one at the same position, xyxy."""
    begin = np.maximum(first[:, :2], second[:, :2])
    end = np.minimum(first[:, 2:], second[:, 2:])
    common = (end - begin).clip(min=0).prod(axis=1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (first, second)]
    ious: npt.NDArray[np.float64] = common / (areas[0] + areas[1] - common)
    return ious


def areas(found: Found, usable: Marks) -> Iterator[Finding]:
    """Yield areas that are not those of the objects in their boxes."""
    annotations = found.annotations
    lengths, given = annotations.boxes[:, 2:], annotations.areas
    with np.errstate(over="ignore"):
        of_boxes = lengths.prod(axis=1)
        large = usable & (given > MOST_OF_BOX * (lengths + MARGIN).prod(axis=1))
    small = usable & (given < LEAST_OF_BOX * of_boxes) & (of_boxes > (MARGIN + 1) ** 2)
    yield from found.finding(
        "area",
        "Areas that are not those of the boxes",
        large | small,
        f"have an `area` larger than their box, or below {100 * LEAST_OF_BOX:.0f} % of it. "
        "map_small, map_medium and map_large depend on the areas.",
        "Correct them, or remove `area` from the annotations to use the areas of the boxes.",
        lambda row: f"area={given[row]:g}, box {of_boxes[row]:g}",
    )


def crowded(found: Found) -> Iterator[Finding]:
    """Yield images with more objects than the metrics count detections."""
    counts = np.bincount(found.owners[~found.annotations.is_crowd], minlength=len(found.images))
    crowds = np.flatnonzero(counts > MOST_BOXES)
    if len(crowds):
        yield Finding(
            "crowded",
            "note",
            f"Images with more than {MOST_BOXES} objects",
            len(crowds),
            "images",
            f"COCO's metrics count {MOST_BOXES} detections per image, so the recall of these "
            "images stays below 100 %.",
            "Cut the images into tiles, if all of their objects matter.",
            [f"{found.images.name(n)} ({counts[n]:,} boxes)" for n in crowds[:SHOWN].tolist()],
            where=f"{found.images.title} set",
        )


def without_boxes(found: Found) -> Iterator[Finding]:
    """Yield images without a box, which a training leaves out."""
    empty = np.flatnonzero(np.diff(found.annotations.starts) == 0)
    if len(empty):
        is_training = found.images.split == "train"
        yield Finding(
            "no-boxes",
            "note",
            "Images without a box",
            len(empty),
            "images",
            f"{share(len(empty), len(found.images))} of the {found.images.title} images have no "
            "box. " + ("A training leaves them out." if is_training else "The metrics count them."),
            "Nothing has to be done, if they show no object.",
            [found.images.name(n) for n in empty[:SHOWN].tolist()],
            where=f"{found.images.title} set",
        )
