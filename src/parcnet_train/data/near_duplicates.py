"""Near duplicates of images: a perceptual hash, and the pairs of hashes that differ in few bits.

The hash is the difference hash (dHash): the signs of the differences between neighbors in a gray
image of 9x8 pixels. It survives scaling, compression, and changes of brightness and contrast, but
no mirroring, and of crops only narrow ones. No library is needed for these few lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 9, 8  # of the gray image
BITS = 64

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]


def difference_hash(image: npt.NDArray[Any]) -> int:
    """Return the difference hash of an image, 64 bits.

    Args:
        image: `(H, W, 3)` RGB or `(H, W)` gray, uint8.
    """
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    rises = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(rises).tobytes(), "big")


def near_pairs(hashes: Sequence[int] | Hashes, distance: int) -> Pairs:
    """Return the pairs of hashes that differ in at most `distance` bits.

    If the bits are divided into `distance + 1` bands, two such hashes agree in at least one band
    (the pigeonhole principle). Therefore only hashes with an equal band are compared, which takes
    seconds for a million images.

    Args:
        hashes: Hashes of 64 bits.
        distance: Largest number of different bits.

    Returns:
        Positions of the two hashes of every pair, `(n, 2)`, the smaller one first, sorted. Of equal
        hashes, each is only paired with the first one, so that many copies give few pairs.
    """
    values, first, inverse = np.unique(
        np.asarray(hashes, np.uint64), return_index=True, return_inverse=True
    )
    copies = np.arange(len(inverse))
    equal = np.stack([first[inverse], copies], axis=1)[first[inverse] != copies]
    found = [equal.astype(np.int64)]
    bands = distance + 1
    for band in range(bands if distance else 0):
        # Bits of a band are spread over the image, since neighbors of a smooth image agree.
        mask = np.uint64(sum(1 << bit for bit in range(band, BITS, bands)))
        order = np.argsort(values & mask, kind="stable")
        ordered = values[order]
        parts = ordered & mask
        left = np.arange(len(parts) - 1)
        for offset in range(1, len(parts)):
            left = left[: np.searchsorted(left, len(parts) - offset)]
            left = left[parts[left] == parts[left + offset]]
            if not len(left):
                break
            near = left[at_most(ordered[left] ^ ordered[left + offset], distance)]
            found.append(np.stack([first[order[near]], first[order[near + offset]]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    keys = np.unique(pairs[:, 0] * len(inverse) + pairs[:, 1])  # faster than unique rows
    return np.stack(np.divmod(keys, max(1, len(inverse))), axis=1)


def at_most(numbers: Hashes, bits: int) -> npt.NDArray[np.bool_]:
    """Return which numbers have at most a number of bits set."""
    for _ in range(bits):  # each step clears the lowest set bit
        numbers = numbers & (numbers - np.uint64(1))
    return numbers == 0
