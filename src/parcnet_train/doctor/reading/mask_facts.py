"""Facts about one mask file: its classes, and the objects that vanish at the input size.

Worker processes import this module, so it must not import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.resizing import fit_mask, place
from parcnet_train.data.segmentation.palette import Mask, read_mask
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.sizes import Size

LEAST = 16  # pixels of an object; smaller ones are specks of the annotation


class MaskFacts(NamedTuple):
    """Facts about a mask. A cache keeps them as JSON, so all are plain values.

    Attributes:
        problem: `unreadable`, `not indices`, or empty.
        reason: Message of a training.
        height: Height in pixels.
        width: Width in pixels.
        counts: Class indices, and the number of pixels of each.
        objects: Number of objects: connected areas of one class, of at least 16 pixels; 0 if the
            input is not smaller than the mask.
        lost: Class index of every object without a single pixel at the input size.
    """

    problem: str = ""
    reason: str = ""
    height: int = 0
    width: int = 0
    counts: list[tuple[int, int]] = []  # noqa: RUF012  a field of a named tuple
    objects: int = 0
    lost: list[int] = []  # noqa: RUF012


def facts_of_mask(
    path: Path,
    size: Size | None,
    keep_aspect: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> MaskFacts:
    """Read the facts about a mask.

    Args:
        path: Path of the file.
        size: Height and width of the network's input; None: objects are not counted.
        keep_aspect: Whether the aspect ratio is kept at the input.
        max_pixels: Largest number of pixels that the header may declare.
    """
    try:
        mask = read_mask(path, max_pixels)
    except UnreadableError as error:
        return MaskFacts("unreadable", str(error))
    except DataError as error:
        return MaskFacts("not indices", str(error))
    values = np.bincount(mask.ravel(), minlength=IGNORED + 1)
    present = np.flatnonzero(values)
    known = MaskFacts(
        height=mask.shape[0],
        width=mask.shape[1],
        counts=[(int(index), int(values[index])) for index in present],
    )
    if size is None:
        return known
    inner = place((mask.shape[0], mask.shape[1]), size, keep_aspect).inner
    if inner[0] >= mask.shape[0] and inner[1] >= mask.shape[1]:  # every pixel remains
        return known
    labels, classes = objects_of(mask, present)
    kept = np.bincount(fit_to_input(labels, size, keep_aspect).ravel(), minlength=len(classes))
    lost = np.flatnonzero(kept == 0)
    return known._replace(
        objects=len(classes) - 1, lost=[classes[index] for index in lost if index > 0]
    )


def objects_of(
    mask: Mask, present: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], list[int]]:
    """Number the objects of a mask from 1.

    Args:
        mask: Class indices.
        present: Class indices that occur.

    Returns:
        Number of the object at every pixel, 0 without one, and the class index of every object.
    """
    labels = np.zeros(mask.shape, np.int32)
    classes = [0]
    for index in present:
        if index == IGNORED:
            continue
        of_class = (mask == index).view(np.uint8)
        left, top, width, height = cv2.boundingRect(of_class)
        within = slice(top, top + height), slice(left, left + width)
        _, parts, boxes, _ = cv2.connectedComponentsWithStats(of_class[within])
        areas = boxes[:, cv2.CC_STAT_AREA]
        areas[0] = 0  # everything else
        numbers = np.cumsum(areas >= LEAST, dtype=np.int32) + len(classes) - 1
        numbers[areas < LEAST] = 0
        labels[within] += numbers[parts]
        classes += [int(index)] * int((areas >= LEAST).sum())
    return labels, classes


def fit_to_input(
    labels: npt.NDArray[np.int32], size: Size, keep_aspect: bool
) -> npt.NDArray[np.int32]:
    """Resize the numbers of objects as a training resizes masks."""
    placing = place((labels.shape[0], labels.shape[1]), size, keep_aspect)
    # OpenCV resizes float32 but not int32 by nearest neighbor; it is exact below 2^24.
    return fit_mask(labels.astype(np.float32), size, placing, 0).astype(np.int32)
