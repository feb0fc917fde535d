"""Files of a data set in VOC's layout: lists of names, and the images and masks they refer to."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import SUFFIXES
from parcnet_train.data.folders import is_file
from parcnet_train.data.near_files import hint
from parcnet_train.data.segmentation.palette import MASK_SUFFIXES
from parcnet_train.data.stores.paths import AnyPath, scan
from parcnet_train.errors import DataError, reason_of, shortened
from parcnet_train.files import read_regular

# A line with an image and its mask, as in VOC's augmented lists; names may contain spaces.
FILE = rf"\S.*(?:{'|'.join(map(re.escape, (*SUFFIXES, '.heic', '.heif', '.jxl')))})"
PAIR = re.compile(rf"({FILE})\s+({FILE})", re.IGNORECASE)

LONGEST = 8192  # characters of a pair: two paths of Linux; longer lines would take minutes to match

Files = npt.NDArray[np.bytes_]


def read_lines(file: AnyPath) -> list[str]:
    """Read the non-empty lines of a text file, without surrounding white space.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        lines = read_regular(file).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(
            f"{file} cannot be read ({reason}{hint(file.parent, file.name)}); expected a text "
            "file with one name per line. Fix: set data.root, data.train_list, data.val_list or "
            "data.test_list"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def find_files(file: AnyPath, root: AnyPath, images: str, masks: str) -> tuple[Files, Files]:
    """Find the images and masks that a list refers to.

    The results are flat arrays: loader processes would gradually copy Python strings into their own
    memory.

    Args:
        file: List with one image per line. A line is either a name, with or without suffix, or a
            pair of an image and its mask. Paths of pairs are relative to the root
            (`JPEGImages/a.jpg SegmentationClassAug/a.png`), with or without a leading slash, or
            absolute.
        root: Folder of the data set.
        images: Folder of the images below the root, used for names.
        masks: Folder of the masks below the root, used for names.

    Returns:
        Paths of the images and of the masks, relative to the root or absolute.

    Raises:
        DataError: If the list is missing or empty, mixes names and pairs, or refers to a file that
            does not exist.
    """
    lines = read_lines(file)
    if not lines:
        raise DataError(f"{file} contains no image; expected a list of names, one per line")
    pairs = [PAIR.fullmatch(line) if len(line) <= LONGEST else None for line in lines]
    if any(pairs):
        first, second = zip(
            *(paths_of(pair, line, file) for pair, line in zip(pairs, lines, strict=True)),
            strict=True,
        )
        return find(file, first, root, "", ()), find(file, second, root, "", ())
    for folder in (root / images, root / masks):
        if not folder.is_dir():
            raise DataError(
                f"data.root: {folder} does not exist{hint(folder.parent, folder.name)}; expected "
                "a folder in VOC's layout. Fix: set data.root, data.images or data.masks"
            )
    return (
        find(file, lines, root, images, SUFFIXES),
        find(file, lines, root, masks, MASK_SUFFIXES),
    )


def paths_of(pair: re.Match[str] | None, line: str, file: AnyPath) -> tuple[str, str]:
    """Return image and mask of a line in a list of pairs.

    Raises:
        DataError: If the line is not a pair.
    """
    if pair is None:
        raise DataError(
            f"{file} contains pairs of an image and its mask, but the line "
            f"{shortened(repr(line))} is not a pair; "
            "expected only pairs or only names"
        )
    return pair[1], pair[2]


def find(
    file: AnyPath, names: Sequence[str], root: AnyPath, inside: str, endings: tuple[str, ...]
) -> Files:
    """Find the file of each name in a folder below the root.

    Args:
        file: List that contains the names, for messages.
        names: Names, with or without suffix.
        root: Folder of the data set.
        inside: Folder below the root.
        endings: Suffixes that a name may lack, best first; `()` if names are complete.

    Raises:
        DataError: If a file does not exist.
    """
    folder = root / inside
    # Each folder is listed once: a query per file would take minutes on a network drive.
    listed: dict[AnyPath, dict[str, str]] = {}
    found, absent = [], []
    for name in names:
        for place in places_of(name, inside):
            parent = root / place.parent
            if parent not in listed:
                listed[parent] = by_name(parent, endings)
            # The mask of a listed `a.jpg` is `a.png`.
            stem = place.stem if endings == MASK_SUFFIXES and is_suffixed(place) else place.name
            if there := listed[parent].get(place.name, listed[parent].get(stem)):
                found.append(os.fsencode(place.with_name(there)))
                break
        else:
            absent.append(name)
    if absent:
        first = Path(absent[0].lstrip("/"))
        ending = "" if is_suffixed(first) else " or ".join(endings[:3])
        raise DataError(
            f"{shortened(folder / first)}{ending} does not exist{hint(folder, absent[0])}; "
            f"{len(absent):,} of {len(names):,} files listed in {file} are missing; expected one "
            "name per line, or pairs such as JPEGImages/a.jpg SegmentationClass/a.png. Fix: fetch "
            "the files, set data.root, or remove the lines"
        )
    return np.array(found)


def places_of(name: str, inside: str) -> list[Path]:
    """Return the paths that a name in a list may refer to, relative to the root or absolute."""
    within = Path(inside, name.lstrip("/"))
    return [within, Path(name)] if name.startswith("/") and not inside else [within]


def is_suffixed(path: Path) -> bool:
    """Return whether a path has the suffix of an image."""
    return path.suffix.lower() in SUFFIXES


def by_name(folder: AnyPath, endings: tuple[str, ...]) -> dict[str, str]:
    """Map the names that a list may use to the file names of a folder; empty without a folder.

    Args:
        folder: Folder of the files.
        endings: Suffixes of the files to consider, best first, which a list may leave out; `()`:
            all files, under their complete names.
    """
    try:
        listed = [Path(entry.name) for entry in scan(folder) if is_file(entry)]
    except (OSError, ValueError):  # ValueError: a null character
        return {}
    if not endings:
        return {file.name: file.name for file in listed}
    wanted = [file for file in listed if file.suffix.lower() in endings]
    ranked = sorted(wanted, key=lambda file: -endings.index(file.suffix.lower()))
    whole = {file.name: file.name for file in wanted}
    return {**whole, **{file.stem: file.name for file in ranked}}  # the first suffix wins


def refuse_repeats(file: AnyPath, images: Files) -> None:
    """Check that the list of an evaluation contains every image only once.

    Raises:
        DataError: If it contains an image more than once.
    """
    names, counts = np.unique(images, return_counts=True)
    if len(names) < len(images):
        raise DataError(
            f"{file} contains {(counts > 1).sum():,} of {len(names):,} images more than once "
            f"(first: {os.fsdecode(names[counts > 1][0])}); expected every image once. "
            "Fix: remove the repeated lines"
        )
