"""Masks of a source: colors or indices, turned with their images, as class indices."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.channels import upright
from parcnet_train.data.decoding import PILLOW
from parcnet_train.data.headers import read_header
from parcnet_train.data.prepare.annotated import UNKNOWN, AnnotatedImage, Palette
from parcnet_train.data.prepare.files import measure
from parcnet_train.data.prepare.settling import content_of
from parcnet_train.data.prepare.shapes import TURNS
from parcnet_train.data.segmentation.palette import Mask, read_mask
from parcnet_train.errors import DataError, UnreadableError, first_line
from parcnet_train.files import read_regular


def indices_of(image: AnnotatedImage, palette: Palette) -> Mask:
    """Return the class indices of an image's mask, `(H, W)`, in the image as shown.

    Args:
        image: Image with a mask.
        palette: Meaning of its pixels.

    Raises:
        DataError: If the mask has an unknown color or index, or another size than its image.
    """
    assert image.mask is not None
    path = image.mask
    values = colors_of(path) if palette.is_colored else read_mask(path)
    found = palette.table[values]
    if (is_unknown := found == UNKNOWN).any():
        raise unknown(path, values[is_unknown], palette)
    mask = found.astype(np.uint8)
    if mask.shape != image.size:
        measured = measure(content_of(image))
        if mask.shape == measured.stored and measured.orientation in TURNS:
            return upright(mask, measured.orientation)
        height, width = measured.shown
        raise DataError(
            f"{path} has {mask.shape[1]}x{mask.shape[0]} pixels, but its image {image.name} has "
            f"{width}x{height}; expected the same size"
        )
    return mask


def unknown(path: Path, values: npt.NDArray[Any], palette: Palette) -> DataError:
    """Return the error for pixels of a mask, of which `values` have no index."""
    others = np.unique(values).tolist()
    if not palette.is_colored:
        last = max(set(palette.indices) - {IGNORED}, default=0)
        return DataError(
            f"{path} has the value {others[0]}; expected 0 to {last}, or {IGNORED}. Fix: list all "
            "classes in classes.txt, index 0 first"
        )
    return DataError(
        f"{path} has {len(others):,} colors that the palette lacks, in {len(values):,} pixels "
        f"(first: {words(others[0])}); expected those of labelmap.txt or prepare.palette. Fix: "
        "add them there, or export the masks without smoothing, as PNG"
    )


def colors_of(path: Path) -> npt.NDArray[Any]:
    """Return the colors of an image, `(H, W)`, as 65536 * red + 256 * green + blue.

    Raises:
        UnreadableError: If it cannot be read.
    """
    try:
        content = read_regular(path)
        with PILLOW[read_header(content).kind](io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"), np.uint32)
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise UnreadableError(f"{path} cannot be read as a mask ({first_line(error)})") from error
    return pixels[:, :, 0] << 16 | pixels[:, :, 1] << 8 | pixels[:, :, 2]


def words(color: int) -> str:
    """Return a color as red, green and blue."""
    return f"{color >> 16},{color >> 8 & 255},{color & 255}"
