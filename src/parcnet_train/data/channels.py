"""Images with other channels than RGB: gray, with transparency, or of several sensors."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.ImageOps
from PIL.ImageFile import ImageFile

from parcnet_train.errors import UnreadableError, first_line

if TYPE_CHECKING:
    from tifffile import TiffFile

Pixels = npt.NDArray[Any]  # (H, W, C) uint8

GRAY, RGB = 1, 3  # channels of ordinary images, to which others are converted

ORIENTATION = 274  # tag of TIFF and EXIF
DIRECTIONS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # of rows and columns, for 1 to 4 and for 5 to 8


def words_of(channels: int) -> str:
    """Return what the channels of an image are, in words."""
    return {GRAY: "gray", RGB: "RGB"}.get(channels, f"{channels} channels")


def to_gray(image: Pixels) -> Pixels:
    """Return the brightness of an image, `(H, W)`; of other images than RGB, the channels' mean."""
    if image.shape[2] == RGB:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return image[..., 0] if image.shape[2] == GRAY else image.mean(axis=2).astype(np.uint8)


def to_rgb(image: Pixels) -> Pixels:
    """Return an image as it can be shown, `(H, W, 3)`: gray, or the first three channels."""
    if image.shape[2] >= RGB:
        return np.ascontiguousarray(image[..., :RGB])
    return np.repeat(image[..., :GRAY], RGB, axis=2)


def read_tiff(content: bytes) -> Pixels:
    """Decode a TIFF file, `(H, W, C)`, upright according to its orientation; pages are channels.

    OpenCV reads only up to four channels of such a file, and Pillow only certain combinations.

    Raises:
        UnreadableError: If it cannot be decoded, or has neither 8 nor 16 bits per channel.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UnreadableError(
            "TIFF files with other channels than gray and RGB need the package tifffile. "
            'Fix: pip install "parcnet-train[tiff]"'
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series = file.series[0]
            axes, pixels = series.axes, series.asarray()
            orientation = orientation_of(file)
    except Exception as error:  # tifffile raises nearly anything for a damaged file
        raise UnreadableError(first_line(error)) from error
    if "Y" not in axes or "X" not in axes:
        raise UnreadableError(f"its axes are {axes}; expected an image with height and width")
    image = np.moveaxis(pixels, (axes.index("Y"), axes.index("X")), (0, 1))
    return with_8_bits(upright(image.reshape(*image.shape[:2], -1), orientation))


def orientation_of(file: TiffFile) -> int:
    """Return the orientation of the first page of a TIFF file, 1 to 8; 1 if it has no valid one."""
    value = file.pages.first.tags.valueof(ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def tiff_orientation(content: bytes) -> int:
    """Return the orientation by which `read_tiff` turns a TIFF file; 1 if it cannot read it."""
    try:
        import tifffile

        with tifffile.TiffFile(io.BytesIO(content)) as file:
            return orientation_of(file)
    except Exception:  # tifffile raises nearly anything for a damaged file
        return 1


def upright(image: Pixels, orientation: int) -> Pixels:
    """Turn an image as its orientation says, and return it contiguous in memory.

    Args:
        image: Image `(H, W, C)`, or gray values or a mask `(H, W)`.
        orientation: Value of the tag, 1 to 8 (TIFF 6.0, section 8), which says where the first row
            and the first column of the file are in the upright image.
    """
    turned = image.swapaxes(0, 1) if orientation > 4 else image
    rows, columns = DIRECTIONS[(orientation - 1) % 4]
    return np.ascontiguousarray(turned[::rows, ::columns])


def read_bands(content: bytes, reader: Callable[[io.BytesIO], ImageFile]) -> Pixels:
    """Decode an image with Pillow, `(H, W, C)`, upright according to its EXIF orientation.

    Args:
        content: Bytes of the file.
        reader: Pillow's reader of the format.

    Raises:
        UnreadableError: If it cannot be decoded.
    """
    try:
        with reader(io.BytesIO(content)) as file:
            image = np.array(PIL.ImageOps.exif_transpose(file))
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise UnreadableError(first_line(error)) from error
    return with_8_bits(image.reshape(*image.shape[:2], -1))


def with_8_bits(image: Pixels) -> Pixels:
    """Return an image with the upper 8 bits of each value.

    Raises:
        UnreadableError: If the values are neither 8 nor 16 bits.
    """
    if image.dtype == np.uint16:
        image = image >> 8
    elif image.dtype != np.uint8:
        raise UnreadableError(
            f"its values are of type {image.dtype}; expected 8 or 16 bits without sign"
        )
    return np.ascontiguousarray(image, np.uint8)
