"""The files of a set in VOC's layout: lists of names, and which images and masks they mean."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.data.near_files import hint
from parcnet_train.errors import DataError, reason_of

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")  # the first that is there
MASK_ENDINGS = (".png",)
# A line that names both files, in the manner of VOC's augmented lists; names may have spaces.
PAIR = re.compile(r"/?(\S.*\.(?:jpe?g|png))\s+/?(\S.*\.png)", re.IGNORECASE)

Files = npt.NDArray[np.bytes_]


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without white space around.

    Raises:
        DataError: where it cannot be read.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
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
        file: names of images, without ending, one a line; or pairs of an image and its mask, by
            their paths within the root (`JPEGImages/a.jpg SegmentationClassAug/a.png`).
        root: of the set.
        images: folder of the images in it, for names.
        masks: folder of the masks in it, for names.

    Returns:
        Paths within the root.

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
        find(file, lines, root, images, IMAGE_ENDINGS),
        find(file, lines, root, masks, MASK_ENDINGS),
    )


def paths_of(pair: re.Match[str] | None, line: str, file: Path) -> tuple[str, str]:
    """Image and mask of a line of a list of pairs.

    Raises:
        DataError: where it is no pair.
    """
    if pair is None:
        raise DataError(
            f"{file} has pairs of an image and its mask, and the line {line!r}, which is none; "
            "allowed are pairs alone, or names without endings alone"
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
    listed: dict[str, dict[str, str]] = {}
    found, absent = [], []
    for name in names:
        parent, stem = os.path.split(name)
        if parent not in listed:
            listed[parent] = by_name(folder / parent, endings)
        if stem in listed[parent]:
            found.append(os.fsencode(Path(inside, parent, listed[parent][stem])))
        else:
            absent.append(name)
    if absent:
        raise DataError(
            f"{folder / absent[0]}{' or '.join(endings)} does not exist, which {file} lists"
            f"{hint(folder, absent[0])}; {len(absent):,} of {len(names):,} files are absent; "
            "fetch them, set data.root, or take them out of the list, which has names without "
            "endings, one a line, or pairs: JPEGImages/a.jpg SegmentationClass/a.png"
        )
    return np.array(found)


def by_name(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """Names of the files of a folder by what a list calls them; none without a folder.

    Args:
        folder: of the files.
        endings: of those that are wanted, which the list leaves out; (): it leaves out none.
    """
    try:
        listed = [Path(entry.name) for entry in os.scandir(folder)]
    except OSError:
        return {}
    if not endings:
        return {file.name: file.name for file in listed}
    return {
        file.stem: file.name
        for ending in reversed(endings)  # the first one stays
        for file in listed
        if file.suffix.lower() == ending
    }


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
