"""Pictures of class maps: the class of every pixel, as a color over the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.data.segmentation.palette import Mask, voc_palette
from parcnet_train.segmentation.upsample import covered
from parcnet_train.visualize.pictures import (
    BLACK,
    FONT,
    FONT_SCALE,
    MARGIN,
    WHITE,
    Pair,
    Picture,
    resize,
    to_picture,
)

OPACITY = 0.6  # opacity of a class's color over the image
HATCHING = 8  # distance between the hatching lines over ignored pixels, in pixels
LINE, BELOW = 22, 6  # height of a line of the legend and of its part below the text, in pixels
SAMPLE = 12  # side of a color sample in the legend, in pixels


def segmentation_pairs(
    batch: SegmentationBatch, classes: Sequence[Tensor], class_names: Sequence[str]
) -> Iterator[Pair]:
    """Yield two pictures per image of a batch: with its true and with its predicted classes.

    Args:
        batch: Batch of an evaluation; padding samples are left out.
        classes: Predicted classes of every original image, `(h, w)` each.
        class_names: Names of the classes, in the order of their indices.
    """
    for index, found in enumerate(classes):
        if batch.samples[index] == PADDING:
            continue
        truth = batch.originals[index]
        rows, columns = covered((truth.shape[0], truth.shape[1]), batch.placements[index])
        image = to_picture(batch.images[index, :, rows, columns])
        first, second = (each.cpu().numpy().astype(np.uint8) for each in (truth, found))
        yield draw_classes(image, first, class_names), draw_classes(image, second, class_names)


def draw_classes(image: Picture, mask: Mask, class_names: Sequence[str]) -> Picture:
    """Draw the colors of the classes over an image, and a legend of these classes below it.

    Args:
        image: Image of any size; it is not changed.
        mask: Class indices, `(h, w)`, whose aspect ratio the picture has; ignored pixels are
            hatched.
        class_names: Names of the classes, in the order of their indices.

    Returns:
        The picture, resized by `resize`, with the legend below it.
    """
    picture = resize(image, mask.shape)
    size = picture.shape[1], picture.shape[0]
    shown = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    ignored = shown == IGNORED
    palette = voc_palette()
    colored = cv2.addWeighted(palette[shown], OPACITY, picture, 1 - OPACITY, 0)
    colored[ignored] = hatched(picture)[ignored]
    seen = np.unique(shown[~ignored]).tolist()
    entries = [(palette[label], class_names[label]) for label in seen]
    entries += [(None, "ignored")] if ignored.any() else []
    return np.vstack([colored, legend(entries, picture.shape[1])])


def hatched(picture: Picture) -> Picture:
    """Draw diagonal lines over a copy of a picture."""
    rows, columns = np.indices(picture.shape[:2])
    lines = (rows + columns) % HATCHING == 0
    return np.where(lines[:, :, None], np.uint8(0), picture)


def legend(entries: Sequence[tuple[npt.NDArray[np.uint8] | None, str]], width: int) -> Picture:
    """Draw a legend: color samples with their names, broken into lines.

    Args:
        entries: Color, or None for hatching, and name of every entry.
        width: Width of the lines, in pixels.
    """
    lines: list[Picture] = []
    left = width
    for color, name in entries:
        length = SAMPLE + MARGIN + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        if left + length > width:
            lines.append(np.full((LINE, width, 3), WHITE, np.uint8))
            left = 0
        sample = lines[-1][LINE - BELOW - SAMPLE : LINE - BELOW, left : left + SAMPLE]
        sample[:] = hatched(sample) if color is None else color
        origin = (left + SAMPLE + MARGIN // 2, LINE - BELOW)
        cv2.putText(lines[-1], name, origin, FONT, FONT_SCALE, BLACK, 1, cv2.LINE_AA)
        left += length + MARGIN
    return np.vstack(lines)
