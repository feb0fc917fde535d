"""From the bytes of an image file to its pixels."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import simplejpeg

from parcnet_train.errors import UnreadableError

Image = npt.NDArray[Any]  # (H, W, 3) uint8, RGB

JPEG = b"\xff\xd8"  # with which such a file begins
APP1 = b"\xff\xe1"  # a segment of what the camera tells
SCAN = b"\xff\xda"  # ends the header

CHECKED = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")  # formats, as Pillow calls them


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
    quickly = decode_quickly(content)
    if quickly is not None:
        return quickly
    try:
        # Through a buffer, since OpenCV prints a warning of its own for a path it cannot read.
        buffer = np.frombuffer(content, np.uint8)
        image: Image | None = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if content else None
    except cv2.error:
        return None
    return image


def decode_quickly(content: bytes) -> Image | None:
    """Decodes an ordinary JPEG that is whole; None for everything else, also CMYK and damaged."""
    if content.startswith(JPEG) and not may_be_turned(content):
        with contextlib.suppress(ValueError):
            return simplejpeg.decode_jpeg(content)
    return None


def decode_whole(content: bytes) -> Image:
    """Decodes as `decode` does, but no damaged file, of which OpenCV may give what is left.

    Args:
        content: of a file; of an animation or of several pages, the first one is decoded.

    Raises:
        UnreadableError: where it is damaged or no image, with the reason alone.
    """
    quickly = decode_quickly(content)
    if quickly is not None:
        return quickly
    if reason := damage(content):
        raise UnreadableError(reason)
    image = decode(content)
    if image is None:
        raise UnreadableError("it is no image of a format that can be read")
    return image


def damage(content: bytes) -> str | None:
    """What Pillow finds wrong with an image file, which tells more than OpenCV; None: nothing."""
    try:
        with PIL.Image.open(io.BytesIO(content), formats=CHECKED) as image:
            image.load()
    except (PIL.UnidentifiedImageError, PIL.Image.DecompressionBombError):
        return None  # another format, or too large for Pillow: OpenCV tells
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def may_be_turned(content: bytes) -> bool:
    """Whether the header of a JPEG has a segment that may tell how the camera was held."""
    position = len(JPEG)
    while (marker := content[position : position + 2]) not in (SCAN, b""):
        if marker == APP1 or marker[0] != 0xFF:
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False
