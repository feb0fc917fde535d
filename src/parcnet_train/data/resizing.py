"""Resizing to the network's input: stretched, or with the aspect kept and the rest filled."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.sizes import Size

LETTERBOX_COLOUR = (114, 114, 114)  # as in YOLOv5, which centres the image, too

Pixels = npt.NDArray[Any]  # (H, W, 3) or (H, W), uint8


class Placing(NamedTuple):
    """Where an image comes to lie in the network's input."""

    inner: Size  # of the resized image
    top: int
    left: int


def place(original: Size, size: Size, keep_aspect: bool) -> Placing:
    """Says where an image comes to lie.

    Args:
        original: height and width of the image.
        size: height and width that are wanted.
        keep_aspect: let one side fit and fill the rest, equally on both sides (letterbox); else
            each side is scaled for itself, as released.
    """
    if not keep_aspect:
        return Placing(size, 0, 0)
    scale = min(size[0] / original[0], size[1] / original[1])
    inner = max(1, round(original[0] * scale)), max(1, round(original[1] * scale))
    return Placing(inner, (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)


def fit_image(image: Pixels, size: Size, placing: Placing) -> Pixels:
    """Resizes colours, not antialiased, as released."""
    inner = cv2.resize(image, placing.inner[::-1], interpolation=cv2.INTER_LINEAR)
    return fill_up(inner, size, placing, LETTERBOX_COLOUR)


def fit_mask(mask: Pixels, size: Size, placing: Placing, fill: int) -> Pixels:
    """Resizes class indices: each pixel has the index of the one that lies at its middle.

    OpenCV's older `INTER_NEAREST` takes the one at its corner, up to half a pixel away from what
    the image shows there.
    """
    inner = cv2.resize(mask, placing.inner[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return fill_up(inner, size, placing, (fill,))


def fill_up(pixels: Pixels, size: Size, placing: Placing, value: tuple[int, ...]) -> Pixels:
    """Adds pixels of one value around what was resized."""
    (height, width), top, left = placing
    if (height, width) == size:
        return pixels
    return border(pixels, top, size[0] - height - top, left, size[1] - width - left, value)


def border(
    pixels: Pixels, top: int, bottom: int, left: int, right: int, value: tuple[int, ...]
) -> Pixels:
    """Adds so many pixels of one value at each side."""
    return cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=value)


def placement_of(original: Size, placing: Placing) -> npt.NDArray[np.float64]:
    """Scales and offsets, `(4,)`: the original's (x, y) lies at (x * [0] + [2], y * [1] + [3])."""
    (height, width), top, left = placing
    return np.array([width / original[1], height / original[0], left, top], np.float64)
