"""Pictures of predictions beside the ground truth: functions that all tasks share.

`detections.py` and `class_maps.py` draw the predictions of the tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from parcnet_train.data.channels import to_rgb

Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Pair = tuple[Picture, Picture]  # ground truth and prediction
Color = tuple[int, int, int]  # red, green, blue

LONGER_SIDE = 480  # longer side of every picture, in pixels; captions stay readable on small images
ENLARGED = 4  # times; smaller images stay small, so that their pixels can be told apart
MARGIN = 8  # space around pictures, in pixels
LARGEST = 65_500  # longest side of a JPEG file that libjpeg writes, in pixels
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def to_picture(image: Tensor) -> Picture:
    """Convert an image `(C, H, W)` of a batch to a picture."""
    return to_rgb(image.permute(1, 2, 0).cpu().numpy())


def resize(image: Picture, shape: Sequence[int] | None = None) -> Picture:
    """Resize an image so that its longer side has `LONGER_SIDE` pixels.

    Args:
        image: Image of any size.
        shape: Height and width that define the aspect ratio of the picture; None keeps that of the
            image.
    """
    height, width = (shape or image.shape)[:2]
    scale = LONGER_SIDE / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    method = cv2.INTER_AREA if max(image.shape[:2]) > LONGER_SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def fitted(image: Picture, side: int, most: float = ENLARGED) -> Picture:
    """Resize an image so that its longer side has `side` pixels.

    Args:
        image: Image of any size and any number of channels.
        side: Longer side of the picture, in pixels.
        most: Largest factor; a smaller image gets a smaller picture.
    """
    scale = min(most, side / max(image.shape[:2]))
    size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
    enlarges = cv2.INTER_NEAREST if scale > 2 else cv2.INTER_LINEAR
    method = cv2.INTER_AREA if scale < 1 else enlarges
    return np.asarray(cv2.resize(to_rgb(image), size, interpolation=method), np.uint8)


def grid(pairs: Sequence[Pair]) -> Picture:
    """Draw all pairs into one picture, one per row.

    Rows that would exceed the height of a JPEG file start a new block beside the others.
    """
    heights = [max(each.shape[0] for each in pair) + MARGIN for pair in pairs]
    width = max(each.shape[1] for pair in pairs for each in pair) + MARGIN
    header = 3 * MARGIN
    blocks: list[list[int]] = [[]]  # indices of the pairs in each block
    for number, height in enumerate(heights):
        if header + sum(heights[each] for each in blocks[-1]) + height > LARGEST:
            blocks.append([])
        blocks[-1].append(number)
    total = max(sum(heights[each] for each in block) for block in blocks)
    shape = header + total, MARGIN + 2 * len(blocks) * width, 3
    canvas: Picture = np.full(shape, WHITE, dtype=np.uint8)
    titles = ("ground truth", "prediction")
    for position, (block, column) in enumerate(itertools.product(blocks, (0, 1))):
        left, top = MARGIN + position * width, header
        base = left, header - MARGIN
        cv2.putText(canvas, titles[column], base, FONT, FONT_SCALE, BLACK, 1, cv2.LINE_AA)
        for number in block:
            picture = pairs[number][column]
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            top += heights[number]
    return canvas


def encode(picture: Picture) -> bytes:
    """Encode a picture as a JPEG file, a small format since a training writes one per epoch.

    A picture that is larger than a JPEG file can be is scaled down.
    """
    height, width = picture.shape[:2]
    if (longer := max(height, width)) > LARGEST:
        size = max(1, width * LARGEST // longer), max(1, height * LARGEST // longer)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    is_written, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert is_written, picture.shape
    return bytes(content)
