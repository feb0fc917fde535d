"""What is wrong with masks: one line each, before they are trained on.

A wrong mask trains without a word: pixels of 255 are ignored, and every other index is some class.
So some masks of each list are looked at whenever a run starts, all of them by `action=check
check.data=full`, and each one when it is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import Image
from parcnet_train.data.file_checks import Seen, Viewed, evenly_spread, look_at
from parcnet_train.data.segmentation.palette import Mask
from parcnet_train.errors import DataError, UnreadableError

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
        is_turned = image.shape[:2] == mask.shape[::-1]
        way_out = (
            "turn the mask too, or take the orientation out of the image's header"
            if is_turned
            else "make the mask of the image as it is, of as many pixels"
        )
        raise DataError(
            f"{mask_path} has {sizes[0]} pixels and its image {path} {sizes[1]}, turned as its "
            f"header says; {way_out}"
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


@dataclass
class Tally:
    """What was seen of the masks of a list.

    Attributes:
        counts: pixels by class index.
        masks: that could be read.
        faults: one line each.
        first: path of the first mask with pixels that are ignored.
    """

    counts: Counts = field(default_factory=lambda: np.zeros(IGNORED + 1, np.int64))
    masks: int = 0
    faults: list[str] = field(default_factory=list)
    first: Path | None = None

    @property
    def has_no_class(self) -> bool:
        """Whether the masks hold nothing but 0 and 255."""
        return self.masks > 0 and not self.counts[1:IGNORED].any()

    def add(self, masks: Masks, samples: Iterable[Seen], may_skip: bool = False) -> None:
        """Adds masks.

        Args:
            masks: of the list.
            samples: what came of looking at some of them.
            may_skip: whether an unreadable file is no fault.
        """
        for sample, counts, error in samples:
            if error is None:
                self.masks += 1
                self.counts += counts
                if self.first is None and counts[IGNORED]:
                    self.first = masks.mask_path(sample)
            elif not (may_skip and isinstance(error, UnreadableError)):
                self.faults.append(str(error))


def faults_of_sample(masks: Masks, file: Path, may_skip: bool) -> list[str]:
    """Looks at some of the masks of a list.

    Args:
        masks: of the list.
        file: the list.
        may_skip: whether an unreadable file is no fault.

    Returns:
        One line per fault.
    """
    tally = Tally()
    samples = evenly_spread(len(masks))
    tally.add(masks, look_at(masks, samples), may_skip)
    if not tally.faults and tally.has_no_class:
        # Classes may be rare: the rest is looked at, up to the first one.
        rest = np.setdiff1d(np.arange(len(masks)), samples).tolist()
        for seen in look_at(masks, rest):
            tally.add(masks, [seen], may_skip)
            if tally.faults or not tally.has_no_class:
                break
    return tally.faults or without_class(tally, file)


def faults_of_all(masks: Masks, file: Path, class_names: Sequence[str] = ()) -> list[str]:
    """Looks at all masks of a list.

    Args:
        masks: of the list.
        file: the list.
        class_names: that should be seen; those that are not are told in one line, as no fault.

    Returns:
        One line per fault.
    """
    tally = Tally()
    tally.add(masks, look_at(masks, range(len(masks)), title=file.stem))
    faults = tally.faults or without_class(tally, file)
    unseen = [
        f"{name} ({index})" for index, name in enumerate(class_names) if not tally.counts[index]
    ]
    if unseen and not faults:
        log.warning(
            "%s: none of its %s masks has a pixel of %s; where that is not meant, compare "
            "classes.txt with the indices in the masks",
            file,
            f"{tally.masks:,}",
            ", ".join(unseen),
        )
    return faults


def without_class(tally: Tally, file: Path) -> list[str]:
    """The fault of masks that hold 0 and 255 alone, where it is theirs."""
    if not tally.has_no_class:
        return []
    if tally.first is None:
        return [
            f"all {tally.masks:,} masks of {file} have pixels of class 0 alone, so there is "
            "nothing to tell from it; write the indices of the classes into them, and set "
            "data.masks to their folder"
        ]
    return [
        f"{tally.first} has pixels of 0 and 255 alone, as have all {tally.masks:,} masks of {file}:"
        " 255 is ignored, so nothing but class 0 would be learned; where 255 stands for a class, "
        "divide the masks by 255, which makes it class 1"
    ]
