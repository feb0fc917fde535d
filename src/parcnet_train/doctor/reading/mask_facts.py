"""Facts about one mask file: its classes, and the objects that vanish at the input size.

Worker processes import this module, so it must not import torch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.resizing import Placing, fit_mask, place
from parcnet_train.data.segmentation.palette import Mask, read_mask
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.doctor.reading.facts import MISSING
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.sizes import Size

Integers = npt.NDArray[np.int64]

LEAST = 16  # pixels of an object; smaller ones are specks of the annotation


class MaskFacts(NamedTuple):
    """Facts about a mask. A cache keeps them as JSON, so all are plain values.

    Attributes:
        problem: `missing`, `unreadable`, `not indices`, or empty.
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
    path: AnyPath,
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
        # Pillow raises an OSError for damaged content, but without a number of the system.
        is_missing = getattr(error.__cause__, "errno", None) is not None
        return MaskFacts(MISSING if is_missing else "unreadable", str(error))
    except DataError as error:
        return MaskFacts("not indices", str(error))
    runs = runs_of(mask)
    counts = np.bincount(runs.values, runs.lengths, minlength=IGNORED + 1)
    known = MaskFacts(
        height=mask.shape[0],
        width=mask.shape[1],
        counts=[(int(index), int(counts[index])) for index in np.flatnonzero(counts)],
    )
    if size is None:
        return known
    inner = place((mask.shape[0], mask.shape[1]), size, keep_aspect).inner
    if inner[0] >= mask.shape[0] and inner[1] >= mask.shape[1]:  # every pixel remains
        return known
    objects = objects_of(runs, mask.shape)
    sizes = np.bincount(objects, runs.lengths)
    classes = np.zeros(len(sizes), np.uint8)
    classes[objects] = runs.values
    kept = np.bincount(objects, sampled_pixels(runs, mask.shape, inner))
    is_object = (sizes >= LEAST) & (classes != IGNORED)
    lost = np.sort(classes[is_object & (kept == 0)])
    return known._replace(objects=int(is_object.sum()), lost=lost.tolist())


class Runs(NamedTuple):
    """Neighboring pixels of one row and one value, in the order of the rows; all `(n,)`."""

    rows: Integers
    begins: Integers  # first column
    lengths: Integers
    values: Mask


def runs_of(mask: Mask) -> Runs:
    """Return the runs of a mask, which has far fewer of them than pixels."""
    flat = mask.ravel()
    is_begin = np.ones(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=is_begin[1:])
    is_begin[:: mask.shape[1]] = True
    places = np.flatnonzero(is_begin)
    rows, begins = np.divmod(places, mask.shape[1])
    return Runs(rows, begins, np.diff(places, append=flat.size), flat[places])


def objects_of(runs: Runs, shape: Size) -> Integers:
    """Number the connected areas of a mask, whose pixels may also touch at a corner.

    Args:
        runs: Runs of the mask.
        shape: Height and width of the mask.

    Returns:
        Number of the area of every run, from 0.
    """
    height, width = shape
    places = runs.rows * width + runs.begins
    above = int(np.searchsorted(runs.rows, height - 1))  # number of runs above the last row
    # The run below the first pixel of each run, and that below the pixel after its last one: the
    # first pixel of the next run. Every row is full of runs.
    under = places[: above + 1] + width
    below = np.searchsorted(places, under, "right") - 1
    below[above] = len(places)
    begins_there = places[below[:-1]] == under[:-1]
    first = below[:-1] - (begins_there & (runs.begins[:above] > 0))
    last = below[1:] - (runs.begins[1 : above + 1] == 0)
    counts = last - first + 1
    ends = np.cumsum(counts)
    one = np.repeat(np.arange(above), counts)
    other = np.arange(len(one)) + np.repeat(first - ends + counts, counts)
    touch = np.flatnonzero(runs.values[one] == runs.values[other])
    ones = np.ones(len(touch), np.bool_)
    graph = coo_array((ones, (one[touch], other[touch])), (len(places), len(places)))
    return connected_components(graph, directed=False)[1]


def sampled_pixels(runs: Runs, shape: Size, inner: Size) -> Integers:
    """Return how many pixels of every run remain when a training resizes the mask.

    Args:
        runs: Runs of the mask.
        shape: Height and width of the mask.
        inner: Height and width of the resized mask.
    """
    times_of_row, times_of_column = (
        np.bincount(remaining(length, new), minlength=length)
        for length, new in zip(shape, inner, strict=True)
    )
    until = np.append(0, np.cumsum(times_of_column))  # before each column
    columns = until[runs.begins + runs.lengths] - until[runs.begins]
    return times_of_row[runs.rows] * columns


def remaining(length: int, new: int) -> Integers:
    """Return the pixels of a row or column that remain when its length changes, `(new,)`."""
    # OpenCV resizes float32 but no large integers by nearest neighbor; it is exact below 2^24.
    ramp = np.arange(length, dtype=np.float32)[None]
    return fit_mask(ramp, (1, new), Placing((1, new), 0, 0), 0)[0].astype(np.int64)
