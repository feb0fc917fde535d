"""Masks of a source: colors or indices, turned with their images, as class indices."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import PILLOW
from parcnet_train.data.headers import read_header
from parcnet_train.data.prepare.annotated import AnnotatedImage
from parcnet_train.data.prepare.files import measure
from parcnet_train.data.prepare.settling import content_of
from parcnet_train.data.prepare.shapes import TURNS, turned_mask
from parcnet_train.data.segmentation.palette import Mask, read_mask
from parcnet_train.errors import DataError, UnreadableError, first_line
from parcnet_train.files import read_regular

VOID = 0xE0E0C0  # color of VOC's ignored pixels


def indices_of(image: AnnotatedImage, palette: Mapping[int, int] | None, count: int) -> Mask:
    """Return the class indices of an image's mask, `(H, W)`, in the image as shown.

    Args:
        image: Image with a mask.
        palette: Index of every color; None: the mask contains indices.
        count: Number of classes.

    Raises:
        DataError: If the mask has an unknown color or index, or another size than its image.
    """
    assert image.mask is not None
    path = image.mask
    mask = read_mask(path) if palette is None else indices_of_colors(path, palette)
    if palette is None and (others := np.setdiff1d(mask, [*range(count), IGNORED])).size:
        raise DataError(
            f"{path} has the value {others[0]}; expected 0 to {count - 1}, or {IGNORED}. Fix: list "
            "all classes in classes.txt, index 0 first"
        )
    if mask.shape != image.size:
        measured = measure(content_of(image))
        if mask.shape == measured.stored and measured.orientation in TURNS:
            return turned_mask(mask, measured.orientation)
        height, width = measured.shown
        raise DataError(
            f"{path} has {mask.shape[1]}x{mask.shape[0]} pixels, but its image {image.name} has "
            f"{width}x{height}; expected the same size"
        )
    return mask


def indices_of_colors(path: Path, palette: Mapping[int, int]) -> Mask:
    """Return the class indices of a colored mask, `(H, W)`.

    Raises:
        DataError: If it cannot be read, or has a color that the palette lacks.
    """
    values = colors_of(path)
    found, inverse = np.unique(values, return_inverse=True)
    others = [color for color in found.tolist() if color not in palette and color != VOID]
    if others:
        pixels = int(np.isin(values, others).sum())
        raise DataError(
            f"{path} has {len(others):,} colors that the palette lacks, in {pixels:,} pixels "
            f"(first: {words(others[0])}); expected those of labelmap.txt or prepare.palette. Fix: "
            "add them there, or export the masks without smoothing, as PNG"
        )
    table = np.array([palette.get(color, IGNORED) for color in found.tolist()], np.uint8)
    return table[inverse.reshape(values.shape)]


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
