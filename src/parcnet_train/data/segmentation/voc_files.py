"""The files of a set in VOC's layout: lists of names, and which images and masks they mean."""

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
from parcnet_train.errors import DataError, reason_of
from parcnet_train.files import read_regular

# A line that names both files, in the manner of VOC's augmented lists; names may have spaces.
FILE = rf"\S.*(?:{'|'.join(map(re.escape, (*SUFFIXES, '.heic', '.heif', '.jxl')))})"
PAIR = re.compile(rf"({FILE})\s+({FILE})", re.IGNORECASE)

Files = npt.NDArray[np.bytes_]


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without white space around.

    Raises:
        DataError: where it cannot be read.
    """
    try:
        lines = read_regular(file).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text in UTF-8"
        raise DataError(
            f"{file} cannot be read ({reason}{hint(file.parent, file.name)}); allowed is a text "
            "file with one name a line; set data.root, data.train_list, data.val_list"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def find_files(file: Path, root: Path, images: str, masks: str) -> tuple[Files, Files]:
    """Which images and masks a list means.

    All are flat arrays: Python strings would be copied into every worker bit by bit.

    Args:
        file: names of images, with or without ending, one a line; or pairs of an image and its
            mask, by their paths within the root (`JPEGImages/a.jpg SegmentationClassAug/a.png`),
            with or without a slash before them, or by absolute paths.
        root: of the set.
        images: folder of the images in it, for names.
        masks: folder of the masks in it, for names.

    Returns:
        Paths within the root, or absolute ones.

    Raises:
        DataError: where the list is missing or empty, has names beside pairs, or a file that it
            names is absent.
    """
    lines = read_lines(file)
    if not lines:
        raise DataError(f"{file} names no image; allowed is a list of names, one a line")
    pairs = [PAIR.fullmatch(line) for line in lines]
    if any(pairs):
        first, second = zip(
            *(paths_of(pair, line, file) for pair, line in zip(pairs, lines, strict=True)),
            strict=True,
        )
        return find(file, first, root, "", ()), find(file, second, root, "", ())
    for folder in (root / images, root / masks):
        if not folder.is_dir():
            raise DataError(
                f"data.root: {folder} does not exist{hint(folder.parent, folder.name)}; allowed is "
                "a folder in VOC's layout; set data.root, data.images, data.masks"
            )
    return (
        find(file, lines, root, images, SUFFIXES),
        find(file, lines, root, masks, MASK_SUFFIXES),
    )


def paths_of(pair: re.Match[str] | None, line: str, file: Path) -> tuple[str, str]:
    """Image and mask of a line of a list of pairs.

    Raises:
        DataError: where it is no pair.
    """
    if pair is None:
        raise DataError(
            f"{file} has pairs of an image and its mask, and the line {line!r}, which is none; "
            "allowed are pairs alone, or names alone"
        )
    return pair[1], pair[2]


def find(
    file: Path, names: Sequence[str], root: Path, inside: str, endings: tuple[str, ...]
) -> Files:
    """The file of each name in a folder of the root, with one of some endings; (): names have one.

    Raises:
        DataError: where one is absent.
    """
    folder = root / inside
    # Folders are listed: asking for each file would take minutes on a network's disk.
    listed: dict[Path, dict[str, str]] = {}
    found, absent = [], []
    for name in names:
        for place in places_of(name, inside):
            parent = root / place.parent
            if parent not in listed:
                listed[parent] = by_name(parent, endings)
            # The mask of `a.jpg` is that of `a`.
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
            f"{folder / first}{ending} does not exist, which {file} lists"
            f"{hint(folder, absent[0])}; {len(absent):,} of {len(names):,} files are absent; "
            "fetch them, set data.root, or take them out of the list, which has names, one "
            "a line, or pairs: JPEGImages/a.jpg SegmentationClass/a.png"
        )
    return np.array(found)


def places_of(name: str, inside: str) -> list[Path]:
    """Paths that a name of a list may mean, within the root or absolute."""
    within = Path(inside, name.lstrip("/"))
    return [within, Path(name)] if name.startswith("/") and not inside else [within]


def is_suffixed(path: Path) -> bool:
    """Whether a name ends as images do."""
    return path.suffix.lower() in SUFFIXES


def by_name(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """Names of the files of a folder by what a list calls them; none without a folder.

    Args:
        folder: of the files.
        endings: of those that are wanted, the first ones first, which the list may leave out; ():
            it leaves out none.
    """
    try:
        listed = [Path(entry.name) for entry in os.scandir(folder) if is_file(entry)]
    except OSError:
        return {}
    if not endings:
        return {file.name: file.name for file in listed}
    wanted = [file for file in listed if file.suffix.lower() in endings]
    ranked = sorted(wanted, key=lambda file: -endings.index(file.suffix.lower()))
    whole = {file.name: file.name for file in wanted}
    return {**whole, **{file.stem: file.name for file in ranked}}  # the first ending stays


def refuse_repeats(file: Path, images: Files) -> None:
    """Refuses a list of an evaluation that names an image more than once.

    Raises:
        DataError: where it does.
    """
    names, counts = np.unique(images, return_counts=True)
    if len(names) < len(images):
        raise DataError(
            f"{file} names {os.fsdecode(names[counts > 1][0])} more than once, as it does "
            f"{(counts > 1).sum():,} of {len(names):,} images, and each would count as often; take "
            "the repeated lines out"
        )
