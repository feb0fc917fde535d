"""Resizing to the network's input: stretched, or with the aspect ratio kept and padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.sizes import Size

LETTERBOX_COLOR = 114  # of every channel, as in YOLOv5, which also centers the image

Pixels = npt.NDArray[Any]  # (H, W, C) or (H, W), uint8


class Placing(NamedTuple):
    """Position of a resized image within the network's input."""

    inner: Size  # height and width of the resized image
    top: int
    left: int


def place(original: Size, size: Size, keep_aspect: bool) -> Placing:
    """Compute the position of an image within the network's input.

    Args:
        original: Height and width of the image.
        size: Height and width of the input.
        keep_aspect: Whether the aspect ratio is kept and the rest is padded equally on both sides
            (letterbox); otherwise each side is scaled independently, as released.
    """
    if not keep_aspect:
        return Placing(size, 0, 0)
    scale = min(size[0] / original[0], size[1] / original[1])
    inner = max(1, round(original[0] * scale)), max(1, round(original[1] * scale))
    return Placing(inner, (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)


def fit_image(image: Pixels, size: Size, placing: Placing) -> Pixels:
    """Resize an image, without antialiasing, as released."""
    return fill_up(resized(image, placing.inner), size, placing, LETTERBOX_COLOR)


def resized(image: Pixels, size: Size) -> Pixels:
    """Resize an image, `(H, W, C)`, without antialiasing, as released."""
    # OpenCV drops the axis of a single channel.
    pixels = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return pixels.reshape(*size, image.shape[2])


def mirrored(image: Pixels) -> Pixels:
    """Flip an image, `(H, W, C)`, horizontally."""
    return cv2.flip(image, 1).reshape(image.shape)


def fit_mask(mask: Pixels, size: Size, placing: Placing, fill: int) -> Pixels:
    """Resize class indices: each pixel gets the index of the original pixel at its center.

    OpenCV's older `INTER_NEAREST` takes the pixel at the corner, up to half a pixel away from the
    position that the image shows there.
    """
    inner = cv2.resize(mask, placing.inner[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return fill_up(inner, size, placing, fill)


def fill_up(pixels: Pixels, size: Size, placing: Placing, value: int) -> Pixels:
    """Pad a resized image to the input size with a constant value."""
    (height, width), top, left = placing
    if (height, width) == size:
        return pixels
    return border(pixels, top, size[0] - height - top, left, size[1] - width - left, value)


def border(
    pixels: Pixels, top: int, bottom: int, left: int, right: int, value: int | Sequence[int]
) -> Pixels:
    """Add pixels of a constant value, of all channels or of each, on the four sides."""
    height, width, *channels = pixels.shape
    # OpenCV's function is for up to four channels.
    canvas = np.empty((top + height + bottom, left + width + right, *channels), pixels.dtype)
    canvas[:] = value
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def placement_of(original: Size, placing: Placing) -> npt.NDArray[np.float64]:
    """Return the scales and offsets that map an image into the network's input, `(4,)`.

    The original's (x, y) lies at (x * [0] + [2], y * [1] + [3]).
    """
    (height, width), top, left = placing
    return np.array([width / original[1], height / original[0], left, top], np.float64)
