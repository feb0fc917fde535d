"""Checks of the masks of a data set, made before a training starts.

A wrong mask goes unnoticed in a training: pixels with the value 255 are ignored, and every other
index is some class. Therefore some masks of each list are checked whenever a run starts, all of
them with `action=check check.data=full`, and each mask again when it is read.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import Image
from parcnet_train.data.file_checks import Seen, Viewed, evenly_spread, look_at
from parcnet_train.data.segmentation.palette import Mask
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, UnreadableError

log = logging.getLogger(__name__)

Counts = npt.NDArray[np.int64]  # (256,), pixels by class index


class Masks(Viewed, Protocol):
    """Masks whose pixels can be counted by class."""

    def look(self, sample: int) -> Counts:
        """Count the pixels of a mask by class."""

    def mask_path(self, sample: int) -> AnyPath:
        """Return the path of a mask."""

    def __len__(self) -> int: ...


def refuse_other_size(path: AnyPath, image: Image, mask_path: AnyPath, mask: Mask) -> None:
    """Check that a mask has the size of its image.

    Raises:
        DataError: If the sizes differ.
    """
    if image.shape[:2] != mask.shape:
        sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (mask, image)]
        is_turned = image.shape[:2] == mask.shape[::-1]
        way_out = (
            "rotate the mask too, or remove the orientation from the image's header (EXIF)"
            if is_turned
            else "create the mask again at the size of the image"
        )
        raise DataError(
            f"{mask_path} has {sizes[0]} pixels, but its image {path} has {sizes[1]} (EXIF "
            f"orientation applied); expected the same size. Fix: {way_out}"
        )


@dataclass(frozen=True)
class MaskValues:
    """Meaning of the values of masks.

    Attributes:
        num_classes: Number of classes.
        first_label: Value of the first class; the others follow it.
        ignored_labels: Values that do not count, beside 255.
    """

    num_classes: int
    first_label: int = 0
    ignored_labels: Sequence[int] = ()

    @functools.cached_property
    def indices(self) -> Mask:
        """Class index of every value, or `IGNORED`, `(256,)`."""
        indices = np.full(IGNORED + 1, IGNORED, np.uint8)
        known = np.arange(self.num_classes)
        indices[known + self.first_label] = known
        indices[[*self.ignored_labels, IGNORED]] = IGNORED
        return indices

    @functools.cached_property
    def are_known(self) -> npt.NDArray[np.bool_]:
        """Whether a value is that of a class or ignored, `(256,)`."""
        known = self.indices != IGNORED
        known[[*self.ignored_labels, IGNORED]] = True
        return known

    def classes_of(self, path: AnyPath, mask: Mask) -> Mask:
        """Return the class index of every pixel of a mask, or `IGNORED`.

        Raises:
            DataError: If a pixel has another value.
        """
        refuse_unknown_classes(path, mask, self)
        return self.indices[mask] if self.first_label or self.ignored_labels else mask


def refuse_unknown_classes(path: AnyPath, mask: Mask, values: MaskValues) -> None:
    """Check that every pixel of a mask has a known class or is ignored.

    Raises:
        DataError: If a pixel has another value.
    """
    unknown = ~values.are_known[mask]
    if unknown.any():
        wrong = np.unique(mask[unknown]).tolist()
        first, ignored = values.first_label, " ".join(map(str, [*values.ignored_labels, IGNORED]))
        words = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise DataError(
            f"{path} has pixels of class {words}; expected {first} to "
            f"{first + values.num_classes - 1}, or {ignored} for ignored pixels. Fix: correct the "
            "mask, list all classes in classes.txt, index 0 first, or set data.ignored_labels"
        )


@dataclass
class Tally:
    """Summary of the masks of a list that were checked.

    Attributes:
        counts: Number of pixels per class index.
        masks: Number of masks that could be read.
        faults: Descriptions of the faults, one line each.
        first: Path of the first mask that contains ignored pixels.
    """

    counts: Counts = field(default_factory=lambda: np.zeros(IGNORED + 1, np.int64))
    masks: int = 0
    faults: list[str] = field(default_factory=list)
    first: AnyPath | None = None

    @property
    def has_no_class(self) -> bool:
        """Whether the masks contain no values other than 0 and 255."""
        return self.masks > 0 and not self.counts[1:IGNORED].any()

    def add(self, masks: Masks, samples: Iterable[Seen], may_skip: bool = False) -> None:
        """Add the results of checking some masks.

        Args:
            masks: Masks of the list.
            samples: Results of `look_at` for some of them.
            may_skip: Whether unreadable files are tolerated.
        """
        for sample, counts, error in samples:
            if error is None:
                self.masks += 1
                self.counts += counts
                if self.first is None and counts[IGNORED]:
                    self.first = masks.mask_path(sample)
            elif not (may_skip and isinstance(error, UnreadableError)):
                self.faults.append(str(error))


def faults_of_sample(masks: Masks, file: AnyPath, may_skip: bool) -> list[str]:
    """Check some of the masks of a list, evenly spread over it.

    Args:
        masks: Masks of the list.
        file: Path of the list.
        may_skip: Whether unreadable files are tolerated.

    Returns:
        One line per fault.
    """
    tally = Tally()
    samples = evenly_spread(len(masks))
    tally.add(masks, look_at(masks, samples), may_skip)
    if not tally.faults and tally.has_no_class:
        # Classes may be rare, so read the other masks until one contains a class.
        rest = np.setdiff1d(np.arange(len(masks)), samples).tolist()
        for seen in look_at(masks, rest):
            tally.add(masks, [seen], may_skip)
            if tally.faults or not tally.has_no_class:
                break
    return tally.faults or without_class(tally, file)


def faults_of_all(masks: Masks, file: AnyPath, class_names: Sequence[str] = ()) -> list[str]:
    """Check all masks of a list.

    Args:
        masks: Masks of the list.
        file: Path of the list.
        class_names: Classes that should occur. A warning lists those that do not; that is not a
            fault.

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
            "%s: none of its %s masks has a pixel of %s. If that is not intended, compare "
            "classes.txt with the indices in the masks",
            file,
            f"{tally.masks:,}",
            ", ".join(unseen),
        )
    return faults


def without_class(tally: Tally, file: AnyPath) -> list[str]:
    """Return the fault of masks that contain only 0 and 255, or an empty list."""
    if not tally.has_no_class:
        return []
    if tally.first is None:
        return [
            f"{file}: all of its {tally.masks:,} masks contain only class 0, so there is nothing "
            "to learn; expected the index of a class in every pixel. Fix: write the indices into "
            "the masks, and set data.masks to their folder"
        ]
    return [
        f"{tally.first} contains only 0 and 255, as do all {tally.masks:,} masks of {file}. 255 is "
        "ignored, so only class 0 would be learned. Fix: if 255 stands for a class, divide the "
        "masks by 255, which makes it class 1"
    ]
