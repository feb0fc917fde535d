"""Findings about images that occur more than once, within a set or in both (leakage)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.channels import to_gray
from parcnet_train.data.file_checks import SHOWN
from parcnet_train.data.near_duplicates import (
    DISTANCE,
    FLAT,
    LEAST_SIDE,
    Thumbnail,
    alike_pairs,
    groups_of,
    near_pairs,
    thumbnail_of,
)
from parcnet_train.distributed.threads import in_threads
from parcnet_train.doctor.findings import Drawing, Finding
from parcnet_train.doctor.images import Limits, Read
from parcnet_train.doctor.pictures import MOST, draw, image_of
from parcnet_train.doctor.sets import ImageSet

# Bits in which hashes differ in a set of so many images, since the number of candidates grows with
# the square of theirs.
MANY, DISTANCE_OF_MANY = 250_000, 4
CANDIDATES = 20_000  # pairs whose images are decoded again and compared


class Pool(NamedTuple):
    """All images of the sets, numbered through.

    Attributes:
        reads: The sets with the facts about their images.
        starts: Number of the first image of every set, and of all images.
    """

    reads: Sequence[Read]
    starts: list[int]

    def place(self, number: int) -> tuple[ImageSet, int]:
        """Return the set of an image and its position there."""
        index = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.reads[index].images, number - self.starts[index]

    def name(self, number: int) -> str:
        """Return the name of an image with its set."""
        images, place = self.place(number)
        return f"{images.split}: {images.name(place)}"

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of the facts about all images."""
        return np.concatenate([read.facts[name] for read in self.reads])


def pool_of(reads: Sequence[Read]) -> Pool:
    """Number the images of all sets through."""
    return Pool(reads, np.cumsum([0, *(len(read.images) for read in reads)]).tolist())


def duplicate_findings(reads: Sequence[Read], limits: Limits) -> Iterator[Finding]:
    """Yield the findings about images that occur more than once."""
    pool = pool_of(reads)
    seen = np.concatenate([read.facts.is_measured() for read in reads])
    exact = equal_groups(pool.column("digest"), seen)
    near, left = near_duplicates(pool, seen, limits)
    for kind, groups in (("exact", exact), ("near", near)):
        yield from findings_of(kind, groups, pool, limits)
    yield from contradictions([*exact, *near], pool, limits)
    if left:
        yield Finding(
            "not-compared",
            "note",
            "Possible near-duplicates that were not compared",
            left,
            "pairs",
            f"The hashes of {CANDIDATES + left:,} pairs of images are nearly equal, where images "
            "of one hash are counted only with the first of them; only the images of the first "
            f"{CANDIDATES:,} pairs were compared by their pixels.",
            "Remove the duplicates that were found, then check again.",
        )


def equal_groups(digests: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Group the numbers of images with the same content; only groups of two or more."""
    numbers = np.flatnonzero(seen)
    order = numbers[np.argsort(digests[numbers], kind="stable")]
    if not len(order):
        return []
    changes = np.flatnonzero(digests[order][1:] != digests[order][:-1]) + 1
    return [group.tolist() for group in np.split(order, changes) if len(group) > 1]


def near_duplicates(
    pool: Pool, seen: npt.NDArray[np.bool_], limits: Limits
) -> tuple[list[list[int]], int]:
    """Group the numbers of images that look the same; copies of one file count once.

    Returns:
        Groups of images, and the number of pairs with similar hashes that were not compared.
    """
    sides = np.minimum(pool.column("height"), pool.column("width"))
    usable = seen & (pool.column("spread") >= FLAT) & (sides >= LEAST_SIDE)
    numbers = np.flatnonzero(usable)
    _, first = np.unique(pool.column("digest")[numbers], return_index=True)
    numbers = numbers[np.sort(first)]
    distance = DISTANCE if len(numbers) <= MANY else DISTANCE_OF_MANY
    hashes = pool.column("hash")[numbers]
    candidates = near_pairs(hashes, distance)
    pairs = candidates[:CANDIDATES]

    def thumbnail(place: int) -> Thumbnail | None:
        image = image_of(*pool.place(int(numbers[place])), limits.max_pixels)
        return None if image is None else thumbnail_of(np.asarray(to_gray(image), np.uint8))

    needed = np.unique(pairs).tolist()
    read = zip(needed, in_threads(thumbnail, needed, "decoded"), strict=True)
    thumbnails = {place: small for place, small in read if small is not None}
    groups = groups_of(alike_pairs(pairs, hashes, thumbnails))
    return [numbers[group].tolist() for group in groups], len(candidates) - len(pairs)


def findings_of(
    kind: str, groups: Sequence[list[int]], pool: Pool, limits: Limits
) -> Iterator[Finding]:
    """Yield the findings about groups: within one set, and over both."""
    across: list[list[int]] = []
    within: list[list[int]] = []
    for group in groups:
        splits = {pool.place(number)[0].split for number in group}
        (across if len(splits) > 1 else within).append(group)
    word = "The same file" if kind == "exact" else "Nearly the same image"
    if across:
        evaluated = pool.reads[-1].images
        count = sum(pool.place(n)[0] is evaluated for group in across for n in group)
        yield Finding(
            f"leakage-{kind}",
            "warning",
            f"Leakage: {word.lower()} in both sets",
            count,
            f"{evaluated.title} images",
            f"{word} is in the training and in the {evaluated.title} set, so the metrics count "
            "images that the network was trained on.",
            "Remove them from one of the sets, usually from the training set.",
            names_of(across, pool),
            pictures_of(across, pool, f"In both sets, {kind} duplicate", limits),
        )
    if within:
        yield Finding(
            f"duplicates-{kind}",
            # Frames of a video and photos of a series often look the same.
            "warning" if kind == "exact" else "note",
            f"{word} more than once in a set",
            sum(len(group) - 1 for group in within),
            "images",
            f"{len(within):,} groups of images are {'' if kind == 'exact' else 'nearly '}the same "
            "within one set. Each counts in a training, and in the metrics.",
            "Remove the copies, unless their number is meant as a weight.",
            names_of(within, pool),
            pictures_of(within, pool, f"{kind.title()} duplicate", limits),
        )


def contradictions(groups: Sequence[list[int]], pool: Pool, limits: Limits) -> Iterator[Finding]:
    """Yield copies of an image that have different classes."""

    def label(number: int) -> int | None:
        images, place = pool.place(number)
        return None if images.labels is None else int(images.labels[place])

    wrong = [group for group in groups if len({label(number) for number in group}) > 1]
    if wrong:
        yield Finding(
            "contradiction",
            "warning",
            "The same image with different classes",
            len(wrong),
            "groups",
            "Copies of an image, exact or near, have different classes; at most one can be right.",
            "Look at them, and keep the copy with the right class.",
            names_of(wrong, pool),
            pictures_of(wrong, pool, "Copy with another class", limits),
        )


def names_of(groups: Sequence[list[int]], pool: Pool) -> list[str]:
    """Return the names of the images in the first groups."""
    return [
        " = ".join(pool.name(number) for number in ends_of(group, pool))
        + (f" and {len(group) - 2} more" if len(group) > 2 else "")
        for group in groups[:SHOWN]
    ]


def ends_of(group: Sequence[int], pool: Pool) -> tuple[int, int]:
    """Return two images of a group, from different sets or with different classes if possible."""

    def key(number: int) -> tuple[str, int]:
        images, place = pool.place(number)
        return images.split, -1 if images.labels is None else int(images.labels[place])

    first = group[0]
    others = [n for n in group[1:] if key(n)[0] != key(first)[0]]
    others += [n for n in group[1:] if key(n) != key(first)]
    return first, (others or group[1:])[0]


def pictures_of(groups: Sequence[list[int]], pool: Pool, alt: str, limits: Limits) -> list[Drawing]:
    """Return pictures of the first groups, two images of each one after the other."""
    shown = []
    for group in groups[: MOST // 2]:
        pair = []
        for number in ends_of(group, pool):
            image = image_of(*pool.place(number), limits.max_pixels)
            if image is not None:
                pair.append(draw(image, pool.name(number), f"{alt}: {pool.name(number)}"))
        shown += pair if len(pair) == 2 else []
    return shown
