"""Assignment of every image of a set to training, validation or test."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.near_duplicates import groups_of, near_duplicates
from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet, Split
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import in_parallel
from parcnet_train.data.prepare.masks import indices_of
from parcnet_train.data.prepare.settling import content_of
from parcnet_train.data.prepare.split import NOTHING, group_names, stratify
from parcnet_train.data.segmentation.palette import values_in
from parcnet_train.errors import ConfigError, DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splitting:
    """How images are assigned to sets.

    Attributes:
        keep: Whether the source's own sets are kept.
        val: Share of the images for validation.
        test: Share of the images for the test.
        group_by: Pattern that names the group of an image; None: no groups.
        near_duplicates: Whether near-duplicates are searched for, and stay together.
        seed: Seed of the split.
    """

    keep: bool
    val: float
    test: float
    group_by: str | None
    near_duplicates: bool
    seed: int


def assign(found: AnnotatedSet, settings: Splitting, where: str) -> None:
    """Give every image a set.

    The source's sets are kept if `settings.keep` is set; what they lack comes from the images
    without a set, or from the training images if there is no validation set.

    Args:
        found: Set, whose images are changed.
        settings: How images are assigned.
        where: Beginning of messages, `prepare.input=PATH`.

    Raises:
        ConfigError: If nothing would be left for the training.
        DataError: If a set would be empty, or the source assigns only some images.
    """
    if settings.val + settings.test >= 1:
        raise ConfigError(
            f"prepare.split.val={settings.val} prepare.split.test={settings.test}: nothing is left "
            "for the training; expected a sum below 1"
        )
    if not settings.keep:
        for image in found.images:
            image.split = None
    given = Counter(image.split for image in found.images)
    if given["train"] and given["val"]:
        faults = Faults(where)
        for image in found.images:
            if image.split is None:
                faults.add(
                    "images that are in none of the source's sets",
                    "expected each in one of them. Fix: add them to its lists, or split the whole "
                    "set anew with prepare.split.keep=false",
                    image.name,
                )
        faults.refuse()
        return
    pool = [image for image in found.images if image.split is None]
    if not given["val"]:
        pool += [image for image in found.images if image.split == "train"]
    if not pool:
        raise DataError(f"{where}: it has no training images; expected a training set")
    shares: dict[Split, float] = {"train": 1.0}
    if not given["val"]:
        shares["val"] = settings.val
    if not given["test"] and settings.test:
        shares["test"] = settings.test
    shares["train"] -= sum(share for split, share in shares.items() if split != "train")
    groups = grouped(pool, settings)
    classes = classes_of(pool, found)
    sets = stratify(classes, groups, shares, settings.seed)
    for image, split in zip(pool, sets, strict=True):
        image.split = split
    for split, share in shares.items():
        if share and split not in sets:
            raise DataError(
                f"{where}: no image is left for {split}: {cause_of_empty(share, classes, groups)}"
            )


def cause_of_empty(
    share: float, classes: Sequence[Collection[str]], groups: Sequence[object]
) -> str:
    """Return why a set got no image, and the fix.

    Args:
        share: Share of the images that it should have.
        classes: Classes that each image shows.
        groups: Group of each image.
    """
    counts = Counter(name for shown in classes for name in shown or (NOTHING,))
    name, count = counts.most_common(1)[0]
    if share * count <= 0.5:  # then no class comes closer to its share with an image in the set
        return (
            f"the most frequent of {len(counts):,} classes ({name}) has {count:,} images, of which "
            f"a share of {share:g} rounds to none; expected more images per class. Fix: a share "
            f"above {math.ceil(5000 / count) / 10_000:g}"  # rounded down, it would be too small
        )
    largest = Counter(groups).most_common(1)[0][1]
    return (
        f"{len(groups):,} images form {len(set(groups)):,} groups, the largest of {largest:,}; "
        "expected more groups. Fix: larger shares, another prepare.split.group_by, or "
        "prepare.split.near_duplicates=false"
    )


def grouped(pool: list[AnnotatedImage], settings: Splitting) -> list[int]:
    """Return the group of each image: by its name, and with its near-duplicates."""
    names = [image.name for image in pool]
    pairs: list[tuple[int, int]] = []
    if settings.group_by is not None:
        first: dict[str, int] = {}
        for number, name in enumerate(group_names(names, settings.group_by)):
            pairs.append((first.setdefault(name, number), number))
        log.info("prepare.split.group_by: %s groups", f"{len(first):,}")
    if settings.near_duplicates:
        near = near_duplicates([partial(content_of, image) for image in pool])
        if near:
            log.info(
                "%s pairs of near-duplicates stay together (first: %s and %s)",
                f"{len(near):,}",
                *(names[number] for number in near[0]),
            )
        pairs += near
    groups = list(range(len(pool)))
    for group in groups_of(pairs):
        for number in group:
            groups[number] = group[0]
    return groups


def classes_of(pool: list[AnnotatedImage], found: AnnotatedSet) -> list[set[str]]:
    """Return the classes that each image shows, which a split balances.

    Raises:
        DataError: If a mask cannot be read.
    """
    palette = found.palette
    if palette is None:
        return [
            set(found.classes).intersection([*(o.name for o in image.objects), image.label])
            for image in pool
        ]

    def look(image: AnnotatedImage) -> set[str]:
        values = values_in(indices_of(image, palette))
        return {found.classes[value] for value in values if value != IGNORED}

    unread = [image for image in pool if image.mask_classes is None]
    for image, result in zip(unread, in_parallel(look, unread, "masks read"), strict=True):
        if isinstance(result, DataError):
            raise result
        image.mask_classes = result
    return [image.mask_classes or set() for image in pool]
