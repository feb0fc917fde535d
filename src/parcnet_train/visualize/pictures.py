"""Pictures of what a network finds, beside what there is to be found.

What is common to all tasks; `detections.py` and `class_maps.py` draw what was found.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Pair = tuple[Picture, Picture]  # what there is, and what was found
Colour = tuple[int, int, int]  # red, green, blue

LONGER_SIDE = 480  # pixels of every picture, so that captions can be read on small images too
MARGIN = 8  # pixels around pictures
LARGEST = 65_500  # pixels of a side of a JPEG file, as libjpeg writes it
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def to_picture(image: Tensor) -> Picture:
    """An image `(3, H, W)` of a batch as a picture."""
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def resize(image: Picture, shape: Sequence[int] | None = None) -> Picture:
    """The image with its longer side of `LONGER_SIDE` pixels.

    Args:
        image: of any size.
        shape: height and width that the sides of the picture are in proportion to; None for those
            of the image.
    """
    height, width = (shape or image.shape)[:2]
    scale = LONGER_SIDE / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    method = cv2.INTER_AREA if max(image.shape[:2]) > LONGER_SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def grid(pairs: Sequence[Pair]) -> Picture:
    """One picture of all pairs, a row each; what a JPEG file is too short for stands beside it."""
    heights = [max(each.shape[0] for each in pair) + MARGIN for pair in pairs]
    width = max(each.shape[1] for pair in pairs for each in pair) + MARGIN
    header = 3 * MARGIN
    blocks: list[list[int]] = [[]]  # numbers of the pairs below each other
    for number, height in enumerate(heights):
        if header + sum(heights[each] for each in blocks[-1]) + height > LARGEST:
            blocks.append([])
        blocks[-1].append(number)
    total = max(sum(heights[each] for each in block) for block in blocks)
    shape = header + total, MARGIN + 2 * len(blocks) * width, 3
    canvas: Picture = np.full(shape, WHITE, dtype=np.uint8)
    titles = ("ground truth", "prediction")
    for place, (block, column) in enumerate(itertools.product(blocks, (0, 1))):
        left, top = MARGIN + place * width, header
        base = left, header - MARGIN
        cv2.putText(canvas, titles[column], base, FONT, FONT_SCALE, BLACK, 1, cv2.LINE_AA)
        for number in block:
            picture = pairs[number][column]
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            top += heights[number]
    return canvas


def encode(picture: Picture) -> bytes:
    """The content of a JPEG file, which is small: a training leaves one per epoch.

    A picture that is larger than such a file can be is reduced to its largest size.
    """
    height, width = picture.shape[:2]
    if (longer := max(height, width)) > LARGEST:
        size = max(1, width * LARGEST // longer), max(1, height * LARGEST // longer)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    is_written, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert is_written, picture.shape
    return bytes(content)
