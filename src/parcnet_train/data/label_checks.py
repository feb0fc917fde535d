"""What is wrong with masks: one line each, before they are trained on.

A wrong mask trains without a word: pixels of 255 are ignored, and every other index is some class.
So some masks of each list are looked at whenever a run starts, all of them by `action=check
check.data=full`, and each one when it is read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import Image
from parcnet_train.data.file_checks import Viewed, evenly_spread, look_at
from parcnet_train.data.palette import Mask

from parcnet_train.errors import DataError

log = logging.getLogger(__name__)

Counts = npt.NDArray[np.int64]  # (256,), pixels by class index


class Masks(Viewed, Protocol):
    """Masks whose pixels can be counted by class."""

    def look(self, sample: int) -> Counts:
        """Counts the pixels of a mask."""

    def mask_path(self, sample: int) -> Path:
        """Where it lies."""

    def __len__(self) -> int: ...


def refuse_other_size(path: Path, image: Image, mask_path: Path, mask: Mask) -> None:
    """Compares a mask with its image.

    Raises:
        DataError: where they have other sizes.
    """
    if image.shape[:2] != mask.shape:
        sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (mask, image)]
        raise DataError(
            f"{mask_path} has {sizes[0]} pixels and its image {path} {sizes[1]}, turned as its "
            "header says; make the mask of the image as it is, of as many pixels"
        )


def refuse_unknown_classes(path: Path, mask: Mask, num_classes: int) -> None:
    """Looks whether all pixels have a class that there is, or are ignored.

    Raises:
        DataError: where one has not.
    """
    if (mask + np.uint8(1)).max() > num_classes:  # 255 goes round to 0
        wrong = np.setdiff1d(mask, [*range(num_classes), IGNORED]).tolist()
        words = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise DataError(
            f"{path} has pixels of class {words}; allowed are 0 to {num_classes - 1} and 255, "
            "which is ignored; correct the mask, or name all classes in classes.txt, the class of "
            "index 0 first"
        )


def faults_of_sample(masks: Masks, file: Path, may_skip: bool) -> list[str]:
    """Looks at some of the masks of a list.

    Args:
        masks: of the list.
        file: the list.
        may_skip: whether an unreadable file is no fault.

    Returns:
        One line per fault.
    """
    samples = evenly_spread(len(masks))
    seen, faults = look_at(masks, samples, may_skip=may_skip)
    if faults or not has_no_class(seen):
        return faults
    # It may be that classes are rare: the rest is looked at, as far as there is none.
    for sample in np.setdiff1d(np.arange(len(masks)), samples).tolist():
        more, faults = look_at(masks, [sample], may_skip=may_skip)
        seen |= more
        if faults or not has_no_class(more):
            return faults
    return [binary(masks, file, seen)]


def faults_of_all(masks: Masks, file: Path, class_names: Sequence[str] = ()) -> list[str]:
    """Looks at all masks of a list.

    Args:
        masks: of the list.
        file: the list.
        class_names: of those that should be seen; who are not are told in one line, no fault.

    Returns:
        One line per fault.
    """
    seen, faults = look_at(masks, range(len(masks)), title=file.stem)
    if not faults and has_no_class(seen):
        return [binary(masks, file, seen)]
    unseen = np.sum(list(seen.values()), axis=0)[: len(class_names)] == 0
    if not faults and unseen.any():
        names = [f"{name} ({index})" for index, name in enumerate(class_names) if unseen[index]]
        log.warning(
            "%s: no mask has a pixel of %s; if that is not meant, compare classes.txt with the "
            "indices in the masks",
            file,
            ", ".join(names),
        )
    return faults


def has_no_class(seen: dict[int, Counts]) -> bool:
    """Whether masks hold 255, and nothing else but 0."""
    counts = np.sum(list(seen.values()), axis=0)
    return bool(counts[IGNORED] and not counts[1:IGNORED].any())


def binary(masks: Masks, file: Path, seen: dict[int, Counts]) -> str:
    """The fault of masks that hold 0 and 255 alone."""
    first = min(sample for sample, counts in seen.items() if counts[IGNORED])
    return (
        f"{masks.mask_path(first)} has pixels of 0 and 255 alone, as have all {len(seen):,} masks "
        f"of {file}: 255 is ignored, so nothing but class 0 would be learned; where 255 stands for "
        "a class, divide the masks by 255, which makes it class 1"
    )
