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

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import decode
from parcnet_train.distributed.threads import in_threads
from parcnet_train.errors import UnreadableError
from parcnet_train.terminal import progress

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
NEIGHBORS = 1000  # pictures of near hashes, the nearest first, with which a picture is compared

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]
Pair = tuple[int, int]
Thumbnail = npt.NDArray[np.uint8]  # (32, 32)
Thumbnails = npt.NDArray[np.uint8]  # (n, 32, 32)


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


def look_alike(first: Thumbnails, second: Thumbnails) -> npt.NDArray[np.bool_]:
    """Return which thumbnails show the same picture, brighter or darker.

    Args:
        first: Thumbnails `(n, 32, 32)`.
        second: Others, `(m, 32, 32)`.

    Returns:
        Whether each pair is alike, `(n, m)`.
    """
    # Float64 holds these numbers exactly, so the result does not depend on the processor.
    one, other = (each.reshape(len(each), -1).astype(np.float64) for each in (first, second))
    one -= one.mean(axis=1, keepdims=True)
    other -= other.mean(axis=1, keepdims=True)
    squares = np.outer((one * one).sum(axis=1), (other * other).sum(axis=1))
    found = (squares > 0) & (one @ other.T >= CORRELATION * np.sqrt(squares))
    for row in np.flatnonzero(found.any(axis=1)):
        places = np.flatnonzero(found[row])
        found[row, places] = np.abs(one[row] - other[places]).mean(axis=1) <= DIFFERENCE
    return found


def near_duplicates(images: Sequence[Callable[[], bytes]]) -> list[Pair]:
    """Find the near-duplicates among images, which are decoded in threads.

    An unreadable, small or uniform image is near to none.

    Args:
        images: Functions that return the content of each image file.

    Returns:
        Pairs of positions, the smaller one first, sorted.
    """
    looks = list(in_threads(look_of, images, "decoded"))
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
    picture of its hash, and all pictures of one hash with those of near ones, up to limits, so that
    the time grows with the number of images and not with that of pairs.

    Args:
        candidates: Result of `near_pairs`.
        hashes: Hashes of all images.
        thumbnails: Thumbnails by the positions of their images; those of unreadable images are
            missing.

    Returns:
        Pairs of positions, the smaller one first, sorted. An image is only paired with the first
        one of its picture.
    """
    is_equal = hashes[candidates[:, 0]] == hashes[candidates[:, 1]]
    equal = candidates[is_equal].tolist()
    near: dict[int, list[int]] = {}
    for first, second in candidates[~is_equal].tolist():
        near.setdefault(first, []).append(second)
    pictures: dict[int, list[int]] = {}  # first image of each picture, by the first of the hash
    found: list[Pair] = []
    with progress("compared", len(equal) + len(near)) as bar:
        for first, image in equal:
            known = pictures.setdefault(first, [first])
            same = alike(known, [image], thumbnails)
            if same:
                found.append(same[0])
            elif len(known) < PICTURES:
                known.append(image)
            bar.update()
        for first, others in near.items():
            nearest = sorted(
                others, key=lambda other: int(hashes[first] ^ hashes[other]).bit_count()
            )
            around = [image for other in nearest for image in pictures.get(other, [other])]
            found += alike(pictures.get(first, [first]), around[:NEIGHBORS], thumbnails)
            bar.update()
    return sorted(found)


def alike(
    first: Sequence[int], second: Sequence[int], thumbnails: Mapping[int, Thumbnail]
) -> list[Pair]:
    """Return the pairs of an image of each list that look alike, the smaller position first."""
    one, other = ([each for each in images if each in thumbnails] for images in (first, second))
    if not (one and other):
        return []
    looks = (np.stack([thumbnails[each] for each in images]) for images in (one, other))
    pairs = np.argwhere(look_alike(*looks)).tolist()
    return [(min(one[i], other[j]), max(one[i], other[j])) for i, j in pairs]


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
