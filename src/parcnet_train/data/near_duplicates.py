"""Near-duplicates among images: copies at another size or quality, and neighboring video frames.

The hash is our own few lines instead of a package: `imagehash` decodes with Pillow, ignores the
EXIF orientation, and compares hashes one by one in Python. Here, images are decoded as they are for
a training, in threads, and pairs are found through equal parts of their hashes.

The hash is a difference hash of 256 bits: a bit says whether a pixel of a thumbnail of 16 x 17
pixels is darker than its right neighbor. Images of little texture have similar hashes by chance,
so two images are near-duplicates only if their thumbnails are similar as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import decode
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import UnreadableError
from parcnet_train.terminal import progress

ROWS, COLUMNS = 16, 17  # of a thumbnail
BITS = ROWS * (COLUMNS - 1)
MOST_DIFFERENT = 8.0  # mean difference of two thumbnails, in gray values of 255
BLOCK = 256  # images that are read ahead
TABLE = 2**20  # comparisons at once
SET_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(
    axis=1, dtype=np.int64
)


class Hashes(NamedTuple):
    """Hashes of images; an unreadable image is marked and is near to none.

    Attributes:
        bits: Packed bits, `(n, 32)` uint8.
        thumbnails: Gray values, `(n, 272)` uint8.
        is_readable: Whether the image could be decoded, `(n,)` bool.
    """

    bits: npt.NDArray[np.uint8]
    thumbnails: npt.NDArray[np.uint8]
    is_readable: npt.NDArray[np.bool_]


def hash_images(images: Sequence[Callable[[], bytes]], title: str = "hashed") -> Hashes:
    """Hash images in threads.

    Args:
        images: Functions that return the content of each image file.
        title: Title of the progress bar.
    """
    thumbnails = np.zeros((len(images), ROWS * COLUMNS), np.uint8)
    is_readable = np.zeros(len(images), np.bool_)
    with ThreadPoolExecutor(own_cores()) as pool, progress(title, len(images)) as bar:
        for start in range(0, len(images), BLOCK):
            found = pool.map(thumbnail_of, images[start : start + BLOCK])
            for number, thumbnail in enumerate(found, start):
                if thumbnail is not None:
                    thumbnails[number], is_readable[number] = thumbnail.ravel(), True
                bar.update()
    gray = thumbnails.reshape(-1, ROWS, COLUMNS)
    is_darker = (gray[:, :, :-1] < gray[:, :, 1:]).reshape(-1, BITS)
    return Hashes(np.packbits(is_darker, axis=1), thumbnails, is_readable)


def thumbnail_of(image: Callable[[], bytes]) -> npt.NDArray[np.uint8] | None:
    """Return the gray values of a thumbnail, `(16, 17)`; None for an unreadable image."""
    try:
        pixels = decode(image())
    except (OSError, UnreadableError):
        return None
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def near_pairs(hashes: Hashes, distance: int) -> list[tuple[int, int]]:
    """Find the near-duplicates.

    If the bits are divided into one more part than may differ, two near hashes have at least one
    part in common, so only images with a common part are compared.

    Args:
        hashes: Hashes of the images.
        distance: Largest number of the 256 bits in which two of them differ.

    Returns:
        Pairs of positions, the smaller one first, sorted.
    """
    rows = np.flatnonzero(hashes.is_readable)
    if len(rows) < 2:
        return []
    found: set[tuple[int, int]] = set()
    bits = np.unpackbits(hashes.bits[rows], axis=1)
    for part in np.array_split(np.arange(BITS), distance + 1):
        keys = np.packbits(bits[:, part], axis=1)
        for same in equal_rows(keys):
            found.update(near_among(hashes, rows[same], distance))
    return sorted(found)


def equal_rows(keys: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the positions of equal rows, at least two at a time."""
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    for group in np.split(order, starts[1:]):
        if len(group) > 1:
            yield group


def near_among(
    hashes: Hashes, rows: npt.NDArray[np.int64], distance: int
) -> Iterator[tuple[int, int]]:
    """Yield the near pairs among some images.

    Args:
        hashes: Hashes of the images.
        rows: Positions of the images to compare.
        distance: Largest number of bits in which two hashes differ.
    """
    step = max(1, TABLE // len(rows))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        differing = hashes.bits[some][:, None] ^ hashes.bits[rows][None]
        counts = SET_BITS[differing].sum(axis=2)
        first, second = np.nonzero((counts <= distance) & (some[:, None] < rows[None]))
        for begin in range(0, len(first), TABLE // BITS):
            a = some[first[begin : begin + TABLE // BITS]]
            b = rows[second[begin : begin + TABLE // BITS]]
            gray = hashes.thumbnails[a].astype(np.int16) - hashes.thumbnails[b]
            is_similar = np.abs(gray).mean(axis=1) <= MOST_DIFFERENT
            yield from zip(a[is_similar].tolist(), b[is_similar].tolist(), strict=True)


def groups_of(pairs: Sequence[tuple[int, int]], count: int) -> npt.NDArray[np.int64]:
    """Return the group of each of `count` images, such that the images of a pair share a group.

    A group is named by the first position in it.
    """
    parents = list(range(count))

    def root(item: int) -> int:
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    for first, second in pairs:
        a, b = sorted((root(first), root(second)))
        parents[b] = a
    return np.array([root(item) for item in range(count)], np.int64)
