"""From the bytes of an image file to its pixels."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

Image = npt.NDArray[Any]  # (H, W, 3) uint8, RGB

JPEG = b"\xff\xd8"  # with which such a file begins
APP1 = b"\xff\xe1"  # a segment of what the camera tells
SCAN = b"\xff\xda"  # ends the header


def read_image(path: Path) -> Image | None:
    """Decodes an image file; None where it cannot be read."""
    try:
        return decode(path.read_bytes())
    except OSError:
        return None


def decode(content: bytes) -> Image | None:
    """Decodes an image to `(H, W, 3)` RGB, turned as its camera was held.

    All pixels are OpenCV's; for ordinary JPEG, libjpeg-turbo makes the same ones in less time when
    it is called without OpenCV.

    Args:
        content: of a file.

    Returns:
        None where it cannot be read.
    """
    if content.startswith(JPEG) and not may_be_turned(content):
        with contextlib.suppress(ValueError):  # CMYK, or damaged: OpenCV reads what can be read
            return simplejpeg.decode_jpeg(content)
    try:
        # Through a buffer, since OpenCV prints a warning of its own for a path it cannot read.
        buffer = np.frombuffer(content, np.uint8)
        image: Image | None = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if content else None
    except cv2.error:
        return None
    return image


def may_be_turned(content: bytes) -> bool:
    """Whether the header of a JPEG has a segment that may tell how the camera was held."""
    position = len(JPEG)
    while (marker := content[position : position + 2]) not in (SCAN, b""):
        if marker == APP1 or marker[0] != 0xFF:
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False
