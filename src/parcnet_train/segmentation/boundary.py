"""Errors of class maps by their distance from the boundaries of the true classes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED

LIMITS = (2, 4, 8, 16, 32)  # upper ends of the ranges of the distance, in pixels; one is above

Mask = npt.NDArray[np.uint8]


def boundary_distance(truth: Mask) -> npt.NDArray[np.float32]:
    """Return how far each pixel is from the nearest boundary between true classes.

    Args:
        truth: Class indices `(h, w)`, or `IGNORED`, whose edge is a boundary too.

    Returns:
        `(h, w)`, in pixels from the center of a pixel to that of the nearest pixel beside a
        boundary (0 for such pixels), Euclidean within 2 %; infinite without a boundary.
    """
    beside = np.zeros(truth.shape, bool)
    for axis in (0, 1):
        first, second = np.moveaxis(truth, axis, 0)[:-1], np.moveaxis(truth, axis, 0)[1:]
        differs = first != second
        view = np.moveaxis(beside, axis, 0)
        view[:-1] |= differs
        view[1:] |= differs
    if not beside.any():
        return np.full(truth.shape, np.inf, np.float32)
    distance = cv2.distanceTransform((~beside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(distance, np.float32)


def errors_by_distance(
    found: Mask, truth: Mask, limits: Sequence[float] = LIMITS
) -> npt.NDArray[np.int64]:
    """Count labeled pixels and wrong ones by the distance from the nearest true boundary.

    Args:
        found: Predicted class indices `(h, w)`.
        truth: True class indices `(h, w)`, or `IGNORED`.
        limits: Upper ends of the ranges of the distance, exclusive and ascending, in pixels.

    Returns:
        `(len(limits) + 1, 2)`: pixels and wrong pixels; the last range is unlimited.
    """
    labeled = truth != IGNORED
    ranges = np.searchsorted(limits, boundary_distance(truth)[labeled], side="right")
    wrong = (found != truth)[labeled]
    pixels = np.bincount(ranges, minlength=len(limits) + 1)
    return np.stack([pixels, np.bincount(ranges, wrong, len(limits) + 1).astype(np.int64)], axis=1)
