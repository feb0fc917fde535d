"""From the bytes of an image file to its pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from parcnet_train.data.transforms import Image


def read_image(path: Path) -> Image | None:
    """Decodes an image file; None where it cannot be read."""
    try:
        return decode(path.read_bytes())
    except OSError:
        return None


def decode(content: bytes) -> Image | None:
    """Decodes an image to `(H, W, 3)` RGB.

    Args:
        content: of a file.

    Returns:
        None where it cannot be read.
    """
    # Through a buffer, since OpenCV prints a warning of its own for a path that it cannot read.
    buffer = np.frombuffer(content, np.uint8)
    try:
        image: Image | None = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if content else None
    except cv2.error:
        return None
    return image
