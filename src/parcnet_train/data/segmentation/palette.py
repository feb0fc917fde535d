"""Masks stored as PNG files whose pixels are class indices, shown in VOC's colors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from parcnet_train.data.decoding import PILLOW
from parcnet_train.data.headers import MAX_PIXELS, read_header
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.data.stores.store import StoreError
from parcnet_train.errors import DataError, UnreadableError, first_line, reason_of
from parcnet_train.files import read_regular

Mask = npt.NDArray[np.uint8]  # (H, W), class indices

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")  # the first one that exists is read
MASK_FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # lossless: indices stay exact

DEPTH, COLOR = 24, 25  # positions of bit depth and color type in a PNG
GRAY = 0
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of a TIFF
WHITE_IS_ZERO = 0
GRAY_STEPS = {2: 85, 4: 17}  # Pillow scales gray values of 2 or 4 bits to the range 0 to 255


def voc_palette() -> npt.NDArray[np.uint8]:
    """Return the colors of VOC (`VOClabelcolormap` of its development kit), `(256, 3)` RGB.

    The bits of an index go to red, green and blue in turn, lowest first, and fill each of them from
    its highest bit downward.
    """
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    # Of the eight bits, three go to red, three to green and two to blue.
    planes = np.pad(bits, ((0, 0), (0, 1))).reshape(256, 3, 3)
    return np.packbits(planes.transpose(0, 2, 1), axis=2)[:, :, 0]


def write_mask(path: Path, mask: Mask) -> None:
    """Write a mask as a PNG file with VOC's palette.

    Args:
        path: Path of the file.
        mask: Class indices, `(H, W)`.
    """
    path.write_bytes(encode_mask(mask))


def encode_mask(mask: Mask) -> bytes:
    """Return the content of a PNG file with VOC's palette."""
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def read_mask(path: AnyPath, max_pixels: int = MAX_PIXELS) -> Mask:
    """Read the class indices of a mask, `(H, W)`, from a file with a palette or a single channel.

    Args:
        path: Path of a PNG, TIFF, BMP or GIF file; of several pages, the first one is read.
        max_pixels: Largest number of pixels that the header may declare.

    Raises:
        UnreadableError: If the file cannot be read.
        DataError: If the pixels are colors, or do not have 8 bits.
    """
    try:
        content = read_regular(path)
        kind = read_header(content, max_pixels).kind
        if kind not in MASK_FORMATS:
            raise UnreadableError(f"its format is {kind}")
        # `Image.open` refuses large images as a possible attack; ours may be aerial images.
        with PILLOW[kind](io.BytesIO(content)) as image:
            mode, indices = image.mode, np.array(image)
            step, is_inverted = steps_of(image, content)
    except StoreError:
        raise
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise UnreadableError(
            f"{path} cannot be read as a mask ({unnamed(reason_of(error))}); expected a PNG of "
            "class indices. Fix: repair or remove it"
        ) from error
    if mode not in ("P", "L", "1") or is_inverted:
        if is_inverted:
            way_out = "save it with 0 as black (PhotometricInterpretation 1)"
        elif mode.startswith(("I", "F")):
            way_out = "save it with 8 bits per pixel"
        else:
            way_out = "replace its colors by indices (CVAT: lines of labelmap.txt, counted from 0)"
        raise DataError(
            f"{path} is not a mask of class indices: its pixels are {mode}"
            f"{' with 0 as white' if is_inverted else ''}; expected an 8-bit PNG with a palette or "
            f"in grayscale. Fix: {way_out}"
        )
    return np.asarray(indices if step == 1 else indices // step, np.uint8)


def values_in(mask: Mask) -> list[int]:
    """Return the different values of a mask, sorted."""
    return np.flatnonzero(np.bincount(mask.ravel())).tolist()


def steps_of(image: ImageFile, content: bytes) -> tuple[int, bool]:
    """Return how Pillow changed the indices of a grayscale file.

    Args:
        image: Opened file.
        content: Bytes of the file.

    Returns:
        Factor by which Pillow spread indices of few bits over 0 to 255, and whether 0 means white.
    """
    if isinstance(image, TiffImageFile):
        depth = image.tag_v2.get(BITS_PER_SAMPLE, (1,))[0]
        meaning = image.tag_v2.get(PHOTOMETRIC, 0)
        return GRAY_STEPS.get(depth, 1) if image.mode == "L" else 1, meaning == WHITE_IS_ZERO
    is_gray_png = isinstance(image, PngImageFile) and content[COLOR] == GRAY
    return GRAY_STEPS.get(content[DEPTH], 1) if is_gray_png else 1, False


def unnamed(reason: str) -> str:
    """Return the first line of a reason, without the memory address that Pillow adds."""
    return first_line(reason).split(" <_io.")[0]
