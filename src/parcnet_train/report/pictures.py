"""Pictures of what a network finds, beside what there is to be found.

What is common to all tasks; `detections.py` and `class_maps.py` draw what was found.
"""

from __future__ import annotations

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
    """One picture of all pairs, a row each."""
    heights = [max(each.shape[0] for each in pair) + MARGIN for pair in pairs]
    width = max(each.shape[1] for pair in pairs for each in pair) + MARGIN
    header = 3 * MARGIN
    canvas: Picture = np.full((header + sum(heights), MARGIN + 2 * width, 3), WHITE, dtype=np.uint8)
    for column, title in enumerate(("ground truth", "prediction")):
        left, top = MARGIN + column * width, header
        cv2.putText(canvas, title, (left, header - MARGIN), FONT, FONT_SCALE, BLACK, 1, cv2.LINE_AA)
        for pair, height in zip(pairs, heights, strict=True):
            picture = pair[column]
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            top += height
    return canvas


def encode(picture: Picture) -> bytes:
    """The content of a JPEG file, which is small: a training leaves one per epoch."""
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
