"""Decoding of image files to pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
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

from parcnet_train.data.channels import GRAY, RGB, read_bands, read_tiff
from parcnet_train.data.headers import MAX_PIXELS, read_header
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import UnreadableError, first_line, reason_of
from parcnet_train.files import read_regular

Image = npt.NDArray[Any]  # (H, W, C) uint8, RGB unless data.channels is another number

JPEG = b"\xff\xd8"  # first bytes of the file
APP1 = b"\xff\xe1"  # segment of EXIF data
SCAN = b"\xff\xda"  # end of the header

# Suffixes of images; if several files have the same name, the first suffix wins. HEIC, JPEG XL, raw
# photos and vector graphics are missing because neither OpenCV nor Pillow decodes them.
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".jpe",
    ".jfif",
    ".gif",
    ".avif",
    ".jp2",
    ".j2k",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)

# Pillow's reader of each format. `PIL.Image.open` has its own size limit; ours is `max_pixels`.
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


def read_image(path: AnyPath, max_pixels: int = MAX_PIXELS, channels: int = RGB) -> Image:
    """Decode an image file of a data set.

    Args:
        path: Path of the file.
        max_pixels: Largest number of pixels that the header may declare.
        channels: Number of channels, see `decode`.

    Raises:
        UnreadableError: If the file cannot be read; the message has the path, the reason and a fix.
    """
    try:
        return decode(read_regular(path), max_pixels, channels)
    except OSError as error:
        raise unreadable(path, reason_of(error)) from error
    except UnreadableError as error:
        raise unreadable(path, error) from error


def unreadable(place: object, reason: object) -> UnreadableError:
    """Return the error for an unreadable image of a data set.

    Args:
        place: Path of the file, or another description of where the image is stored.
        reason: Reason why it is unreadable.
    """
    return UnreadableError(
        f"{place} cannot be read as an image ({reason}). Fix: repair or remove it, or leave such "
        "files out with data.on_error=skip"
    )


def decode(content: bytes, max_pixels: int = MAX_PIXELS, channels: int = RGB) -> Image:
    """Decode an image to `(H, W, channels)`, upright according to its EXIF orientation.

    Every image is converted to RGB, or to gray if `channels` is 1. Any other number must be that of
    the file.

    OpenCV decodes all formats except AVIF, because it ignores the orientation of AVIF images.
    Ordinary JPEG files are decoded by libjpeg-turbo without OpenCV, which gives the same pixels in
    less time.

    Args:
        content: Bytes of the file.
        max_pixels: Largest number of pixels that the header may declare.
        channels: Number of channels.

    Raises:
        UnreadableError: If the image cannot be decoded; the message is the reason without the path.
    """
    header = read_header(content, max_pixels)
    if channels not in (GRAY, RGB):
        return decode_channels(content, header.kind, channels)
    is_gray = channels == GRAY
    if header.kind == "AVIF":
        return decode_avif(content, is_gray)
    quickly = decode_quickly(content, is_gray)
    if quickly is not None:
        return quickly
    try:
        # OpenCV gets a buffer because it prints its own warning for a path that it cannot read.
        buffer = np.frombuffer(content, np.uint8)
        flag = cv2.IMREAD_GRAYSCALE if is_gray else cv2.IMREAD_COLOR_RGB
        image: Image | None = cv2.imdecode(buffer, flag)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableError(f"its {header.kind} data cannot be decoded")
    return image[..., None] if is_gray else image


def decode_channels(content: bytes, kind: str, channels: int) -> Image:
    """Decode an image, and refuse it unless it has `channels` channels.

    Args:
        content: Bytes of the file.
        kind: Format, in Pillow's spelling.
        channels: Number of channels.

    Returns:
        Image `(H, W, channels)` uint8. Of 16 bits per channel, the upper 8 are kept.

    Raises:
        UnreadableError: If the image cannot be decoded or has other channels; the message is the
            reason without the path.
    """
    image = read_tiff(content) if kind == "TIFF" else read_bands(content, PILLOW[kind])
    if image.shape[2] != channels:
        raise UnreadableError(
            f"the number of its channels is {image.shape[2]}; expected data.channels={channels}"
        )
    return image


def decode_avif(content: bytes, is_gray: bool) -> Image:
    """Decode the first image of an AVIF file with Pillow.

    Raises:
        UnreadableError: If the image cannot be decoded; the message is the reason without the path.
    """
    try:
        with AvifImageFile(io.BytesIO(content)) as file:
            upright = PIL.ImageOps.exif_transpose(file)
            return (
                np.array(upright.convert("L"))[..., None]
                if is_gray
                else np.array(upright.convert("RGB"))
            )
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise UnreadableError(first_line(error)) from error


def decode_quickly(content: bytes, is_gray: bool) -> Image | None:
    """Decode an undamaged JPEG file without EXIF data; return None for other files and CMYK."""
    if content.startswith(JPEG) and not may_be_turned(content):
        with contextlib.suppress(ValueError):
            return simplejpeg.decode_jpeg(content, "GRAY" if is_gray else "RGB")
    return None


def decode_whole(content: bytes, max_pixels: int = MAX_PIXELS, channels: int = RGB) -> Image:
    """Decode an image like `decode`, but refuse damaged files, which OpenCV may decode in part.

    Args:
        content: Bytes of the file; of an animation or of several pages, the first one is decoded.
        max_pixels: Largest number of pixels that the header may declare.
        channels: Number of channels, see `decode`.

    Raises:
        UnreadableError: If the file is damaged or not an image; the message is the reason without
            the path.
    """
    header = read_header(content, max_pixels)
    if channels not in (GRAY, RGB):
        return decode_channels(content, header.kind, channels)  # which refuses damaged files
    quickly = decode_quickly(content, channels == GRAY)
    if quickly is not None:
        return quickly
    if reason := damage(content, header.kind):
        raise UnreadableError(reason)
    return decode(content, max_pixels, channels)


def damage(content: bytes, kind: str) -> str | None:
    """Return the fault that Pillow finds in an image file, or None.

    Pillow describes a fault in more detail than OpenCV does.

    Args:
        content: Bytes of the file.
        kind: Format, in Pillow's spelling.
    """
    try:
        with PILLOW[kind](io.BytesIO(content)) as image:
            image.load()
    except (SyntaxError, PIL.Image.DecompressionBombError):
        return None  # unknown to Pillow, or too large for it: left to OpenCV
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        return first_line(error)
    return None


def may_be_turned(content: bytes) -> bool:
    """Return whether the header of a JPEG file has a segment that may contain an orientation."""
    position = len(JPEG)
    while (marker := content[position : position + 2]) not in (SCAN, b""):
        if marker == APP1 or marker[0] != 0xFF:
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False
