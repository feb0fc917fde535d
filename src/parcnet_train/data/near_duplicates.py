"""Near-duplicates among images: copies at another size or quality, and neighboring video frames.

Perceptual hashes that differ in few bits give the candidates, and a comparison of thumbnails
decides, because hashes of smooth images such as skies are often equal by accident.

The hash is the difference hash (dHash): the signs of the differences between neighbors in a gray
image of 9x8 pixels. It survives scaling, compression, and changes of brightness and contrast, but
no mirroring, and of crops only narrow ones. It is written here because the package `imagehash`
decodes with Pillow, ignores the EXIF orientation, and compares hashes one by one in Python;
`cleanvision` uses it without a comparison of thumbnails.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import decode
from parcnet_train.distributed.threads import in_threads
from parcnet_train.errors import UnreadableError

WIDTH, HEIGHT = 9, 8  # of the gray image that is hashed
BITS = 64
DISTANCE = 6  # bits in which the hashes of near-duplicates differ at most
THUMBNAIL = 32  # side of a thumbnail in pixels
# Least correlation and largest mean difference of their gray values, chosen on CIFAR-10: 60 pairs
# over both sets with correlations from 0.93 to 0.97 were looked at, and all show the same picture.
CORRELATION, DIFFERENCE = 0.93, 20.0
LEAST_SIDE = 24  # pixels; smaller images resemble each other too easily
FLAT = 4.0  # standard deviation of a uniform image's gray values; it resembles all of its kind
PICTURES = 100  # different pictures of one hash with which others are compared

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]
Pair = tuple[int, int]
Thumbnail = npt.NDArray[np.uint8]


class Look(NamedTuple):
    """What images are compared by.

    Attributes:
        hash: Difference hash.
        thumbnail: Gray values, `(32, 32)`.
    """

    hash: int
    thumbnail: Thumbnail


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


def thumbnail_of(gray: npt.NDArray[np.uint8]) -> Thumbnail:
    """Return the thumbnail `(32, 32)` of a gray image."""
    small = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def look_alike(first: Thumbnail, second: Thumbnail) -> bool:
    """Return whether two thumbnails show the same picture, brighter or darker."""
    one, other = (each - each.mean(dtype=np.float64) for each in (first, second))
    product = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return (
        product > 0
        and float((one * other).sum()) / product >= CORRELATION
        and float(np.abs(one - other).mean()) <= DIFFERENCE
    )


def near_duplicates(images: Sequence[Callable[[], bytes]], title: str = "compared") -> list[Pair]:
    """Find the near-duplicates among images, which are decoded in threads.

    An unreadable, small or uniform image is near to none.

    Args:
        images: Functions that return the content of each image file.
        title: Title of the progress bar.

    Returns:
        Pairs of positions, the smaller one first, sorted.
    """
    looks = list(in_threads(look_of, images, title))
    numbers = [number for number, look in enumerate(looks) if look is not None]
    seen = [look for look in looks if look is not None]
    hashes = np.array([look.hash for look in seen], np.uint64)
    thumbnails = {place: look.thumbnail for place, look in enumerate(seen)}
    pairs = alike_pairs(near_pairs(hashes, DISTANCE), hashes, thumbnails)
    return [(numbers[first], numbers[second]) for first, second in pairs]


def alike_pairs(
    candidates: Pairs, hashes: Hashes, thumbnails: Mapping[int, Thumbnail]
) -> list[Pair]:
    """Return the pairs that look alike, among images whose hashes are near.

    Different pictures may have one hash. Therefore an image is compared with the first one of each
    picture of its hash, up to a limit, and all pictures of one hash with those of a near one.

    Args:
        candidates: Result of `near_pairs`.
        hashes: Hashes of all images.
        thumbnails: Thumbnails by the positions of their images; those of unreadable images are
            missing.

    Returns:
        Pairs of positions, the smaller one first, sorted. An image is only paired with the first
        one of its picture.
    """

    def alike(first: int, second: int) -> bool:
        one, other = thumbnails.get(first), thumbnails.get(second)
        return one is not None and other is not None and look_alike(one, other)

    is_equal = hashes[candidates[:, 0]] == hashes[candidates[:, 1]]
    pictures: dict[int, list[int]] = {}  # first image of each picture, by the first of the hash
    found: list[Pair] = []
    for first, image in candidates[is_equal].tolist():
        known = pictures.setdefault(first, [first])
        same = next((each for each in known if alike(each, image)), None)
        if same is not None:
            found.append((same, image))
        elif len(known) < PICTURES:
            known.append(image)
    for pair in candidates[~is_equal].tolist():
        for first, second in itertools.product(*(pictures.get(each, [each]) for each in pair)):
            if alike(first, second):
                found.append((min(first, second), max(first, second)))
    return sorted(found)


def look_of(image: Callable[[], bytes]) -> Look | None:
    """Return hash and thumbnail of an image; None if it is unreadable, small or uniform."""
    try:
        pixels = decode(image())
    except (OSError, UnreadableError):
        return None
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    if min(gray.shape) < LEAST_SIDE or gray.std() < FLAT:
        return None
    return Look(difference_hash(gray), thumbnail_of(gray))


def groups_of(pairs: Sequence[Pair]) -> list[list[int]]:
    """Join pairs with a common member into groups; numbers without a pair are in none."""
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        parent.setdefault(number, number)
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for number in sorted(parent):
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())
