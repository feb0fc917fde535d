"""Pictures of a report: small examples that show what a finding is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import read_image
from parcnet_train.doctor.findings import Drawing
from parcnet_train.doctor.sets import ImageSet
from parcnet_train.errors import DataError
from parcnet_train.visualize.pictures import encode, fitted

SIDE = 240  # longest side of a picture, in pixels; twice that of what is drawn on
MOST = 6  # pictures of a finding

Image = npt.NDArray[Any]  # (H, W, 3) uint8, RGB


def draw(image: Image, caption: str, alt: str, side: int = SIDE) -> Drawing:
    """Return an image as a picture of a report.

    Args:
        image: Image of any size.
        caption: Name of the image.
        alt: Description of the picture.
        side: Longest side of the picture, in pixels.
    """
    return Drawing(encode(fitted(image, side)), caption, alt)


def image_of(images: ImageSet, place: int, max_pixels: int) -> Image | None:
    """Read an image for a picture; None if it cannot be read."""
    try:
        if images.has_files:
            return read_image(images.path(place), max_pixels, images.channels)
        return np.asarray(images.dataset.original(place))
    except DataError:
        return None


def examples(images: ImageSet, places: Sequence[int], alt: str, max_pixels: int) -> list[Drawing]:
    """Return pictures of the first images that can be read.

    Args:
        images: Set of the images.
        places: Positions in the set.
        alt: Description of the pictures.
        max_pixels: Largest number of pixels that the header of an image may declare.
    """
    found = []
    for place in places[:MOST]:
        image = image_of(images, place, max_pixels)
        if image is not None:
            name = images.name(place)
            found.append(draw(image, name, f"{alt}: {name}"))
    return found
