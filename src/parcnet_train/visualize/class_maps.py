"""Pictures of the classes of pixels, laid over the image."""

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

OPACITY = 0.6  # of a class's colour over the image
HATCHING = 8  # pixels between the lines over ignored ones
LINE, BELOW = 22, 6  # pixels of height of a line of the legend, and of them below its letters
SAMPLE = 12  # pixels of height and width of a colour in it


def segmentation_pairs(
    batch: SegmentationBatch, classes: Sequence[Tensor], class_names: Sequence[str]
) -> Iterator[Pair]:
    """The images of a batch under their true classes, and under those that were found.

    Args:
        batch: of an evaluation; its empty places are left out.
        classes: of the pixels of every original image, `(h, w)`.
        class_names: in the order of the class indices.
    """
    for place, found in enumerate(classes):
        if batch.samples[place] == PADDING:
            continue
        truth = batch.originals[place]
        rows, columns = covered((truth.shape[0], truth.shape[1]), batch.placements[place])
        image = to_picture(batch.images[place, :, rows, columns])
        first, second = (each.cpu().numpy().astype(np.uint8) for each in (truth, found))
        yield draw_classes(image, first, class_names), draw_classes(image, second, class_names)


def draw_classes(image: Picture, mask: Mask, class_names: Sequence[str]) -> Picture:
    """Lays the colours of classes over an image, above a legend of those that it shows.

    Args:
        image: of any size; it is left as it is.
        mask: `(h, w)` class indices, in whose proportions the picture is drawn; ignored pixels are
            hatched.
        class_names: in the order of the class indices.

    Returns:
        The picture, see `resize`, and the legend below it.
    """
    picture = resize(image, mask.shape)
    size = picture.shape[1], picture.shape[0]
    shown = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    ignored = shown == IGNORED
    palette = voc_palette()
    coloured = cv2.addWeighted(palette[shown], OPACITY, picture, 1 - OPACITY, 0)
    coloured[ignored] = hatched(picture)[ignored]
    seen = np.unique(shown[~ignored]).tolist()
    entries = [(palette[label], class_names[label]) for label in seen]
    entries += [(None, "ignored")] if ignored.any() else []
    return np.vstack([coloured, legend(entries, picture.shape[1])])


def hatched(picture: Picture) -> Picture:
    """A picture under diagonal lines."""
    rows, columns = np.indices(picture.shape[:2])
    lines = (rows + columns) % HATCHING == 0
    return np.where(lines[:, :, None], np.uint8(0), picture)


def legend(entries: Sequence[tuple[npt.NDArray[np.uint8] | None, str]], width: int) -> Picture:
    """Samples of colours with their names, in lines of a width.

    Args:
        entries: colours, None for hatching, and what they stand for.
        width: of the lines, in pixels.
    """
    lines: list[Picture] = []
    left = width
    for colour, name in entries:
        length = SAMPLE + MARGIN + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        if left + length > width:
            lines.append(np.full((LINE, width, 3), WHITE, np.uint8))
            left = 0
        sample = lines[-1][LINE - BELOW - SAMPLE : LINE - BELOW, left : left + SAMPLE]
        sample[:] = hatched(sample) if colour is None else colour
        place = (left + SAMPLE + MARGIN // 2, LINE - BELOW)
        cv2.putText(lines[-1], name, place, FONT, FONT_SCALE, BLACK, 1, cv2.LINE_AA)
        left += length + MARGIN
    return np.vstack(lines)
