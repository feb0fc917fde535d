"""Masks as PNG files whose pixels are class indices, shown in VOC's colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from parcnet_train.errors import DataError, UnreadableError

Mask = npt.NDArray[np.uint8]  # (H, W), class indices
IGNORED = 255  # index of pixels that count for no class

DEPTH, COLOUR = 24, 25  # where a PNG tells its bits per pixel, and what they mean
GREY = 0
GREY_STEPS = {2: 85, 4: 17}  # Pillow spreads few bits of grey over 0 to 255


def voc_palette() -> npt.NDArray[np.uint8]:
    """The colours of VOC, of its development kit's `VOClabelcolormap`, `(256, 3)` RGB.

    The bits of an index go to red, green and blue in turn, lowest first, and fill each of them from
    its highest bit on.
    """
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    # The eight bits are three of red, three of green, two of blue.
    planes = np.pad(bits, ((0, 0), (0, 1))).reshape(256, 3, 3)
    return np.packbits(planes.transpose(0, 2, 1), axis=2)[:, :, 0]


def write_mask(path: Path, mask: Mask) -> None:
    """Writes a PNG with VOC's palette.

    Args:
        path: of the file.
        mask: `(H, W)`, class indices.
    """
    path.write_bytes(encode_mask(mask))


def encode_mask(mask: Mask) -> bytes:
    """The content of such a file."""
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def read_mask(path: Path) -> Mask:
    """Class indices of a mask, `(H, W)`, from a PNG with a palette or with one channel.

    Raises:
        UnreadableError: where it cannot be read.
        DataError: where its pixels are colours, or have 16 bits.
    """
    try:
        content = path.read_bytes()
        # `Image.open` refuses large images, as hostile; here they are aerial ones.
        with PngImageFile(io.BytesIO(content)) as image:
            mode, indices = image.mode, np.array(image)
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnreadableError(
            f"{path} cannot be read as a mask ({unnamed(reason)}); allowed is a PNG of class "
            "indices; mend or remove it"
        ) from error
    if mode not in ("P", "L", "1"):
        way_out = "save it with 8 bits" if mode.startswith("I") else "turn its colours into indices"
        raise DataError(
            f"{path} is no mask of class indices, its pixels are {mode}; allowed is a PNG of "
            f"8 bits with a palette or in grey; {way_out}"
        )
    few_bits = content[COLOUR] == GREY and content[DEPTH] in GREY_STEPS
    return np.asarray(indices // GREY_STEPS[content[DEPTH]] if few_bits else indices, np.uint8)


def unnamed(reason: object) -> str:
    """The first line of a reason, without the memory address that Pillow names."""
    return (str(reason).splitlines() or [type(reason).__name__])[0].split(" <_io.")[0]
