"""From the bytes of an image file to its pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import simplejpeg
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from parcnet_train.data.headers import MAX_PIXELS, read_header
from parcnet_train.errors import UnreadableError, first_line, reason_of
from parcnet_train.files import read_regular

Image = npt.NDArray[Any]  # (H, W, 3) uint8, RGB

JPEG = b"\xff\xd8"  # with which such a file begins
APP1 = b"\xff\xe1"  # a segment of what the camera tells
SCAN = b"\xff\xda"  # ends the header

# Suffixes of files that are read, in the order in which one is chosen of several of a name. HEIC,
# JPEG XL, raw photos and vector graphics are not: neither OpenCV nor Pillow decodes them.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".gif", ".avif"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)

# What Pillow reads the formats with: `PIL.Image.open` has a limit of its own, ours is `max_pixels`.
PILLOW: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PPM": PpmImageFile,
}


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decodes an image file of a data set.

    Args:
        path: Path of the file.
        max_pixels: Most pixels that its header may declare.

    Raises:
        UnreadableError: If it cannot be read, with the path, the reason and the way out.
    """
    try:
        return decode(read_regular(path), max_pixels)
    except OSError as error:
        raise unreadable(path, reason_of(error)) from error
    except UnreadableError as error:
        raise unreadable(path, error) from error


def unreadable(place: object, reason: object) -> UnreadableError:
    """The error for an image of a data set that cannot be read.

    Args:
        place: Path of the file, or another name of the place where the image is.
        reason: What is wrong with it.
    """
    return UnreadableError(
        f"{place} cannot be read as an image ({reason}); mend or remove it, or go on without such "
        "files: data.on_error=skip"
    )


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Decodes an image to `(H, W, 3)` RGB, turned as its camera was held.

    All pixels are OpenCV's, except for AVIF, whose turned images OpenCV does not turn. For ordinary
    JPEG, libjpeg-turbo makes the same pixels in less time when it is called without OpenCV.

    Args:
        content: Bytes of the file.
        max_pixels: Most pixels that its header may declare.

    Raises:
        UnreadableError: If it cannot be read; the message is the reason without the path.
    """
    header = read_header(content, max_pixels)
    if header.kind == "AVIF":
        return decode_avif(content)
    quickly = decode_quickly(content)
    if quickly is not None:
        return quickly
    try:
        # Through a buffer, since OpenCV prints a warning of its own for a path it cannot read.
        buffer = np.frombuffer(content, np.uint8)
        image: Image | None = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableError(f"it is {header.kind} that cannot be decoded")
    return image


def decode_avif(content: bytes) -> Image:
    """Decodes the first image of an AVIF file with Pillow.

    Raises:
        UnreadableError: If it cannot be read; the message is the reason without the path.
    """
    try:
        with AvifImageFile(io.BytesIO(content)) as file:
            return np.array(PIL.ImageOps.exif_transpose(file).convert("RGB"))
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise UnreadableError(first_line(error)) from error


def decode_quickly(content: bytes) -> Image | None:
    """Decodes an ordinary JPEG that is whole; None for everything else, also CMYK and damaged."""
    if content.startswith(JPEG) and not may_be_turned(content):
        with contextlib.suppress(ValueError):
            return simplejpeg.decode_jpeg(content)
    return None


def decode_whole(content: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Decodes as `decode` does, but no damaged file, of which OpenCV may give what is left.

    Args:
        content: Bytes of the file; of an animation or of several pages, the first is decoded.
        max_pixels: Most pixels that its header may declare.

    Raises:
        UnreadableError: If it is damaged or no image; the message is the reason without the path.
    """
    header = read_header(content, max_pixels)
    quickly = decode_quickly(content)
    if quickly is not None:
        return quickly
    if reason := damage(content, header.kind):
        raise UnreadableError(reason)
    return decode(content, max_pixels)


def damage(content: bytes, kind: str) -> str | None:
    """What Pillow finds wrong with an image file, which tells more than OpenCV; None: nothing.

    Args:
        content: Bytes of the file.
        kind: Format, as Pillow calls it.
    """
    try:
        with PILLOW[kind](io.BytesIO(content)) as image:
            image.load()
    except (SyntaxError, PIL.Image.DecompressionBombError):
        return None  # a variant that Pillow does not know, or too large for it: OpenCV tells
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        return first_line(error)
    return None


def may_be_turned(content: bytes) -> bool:
    """Whether the header of a JPEG has a segment that may tell how the camera was held."""
    position = len(JPEG)
    while (marker := content[position : position + 2]) not in (SCAN, b""):
        if marker == APP1 or marker[0] != 0xFF:
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False
