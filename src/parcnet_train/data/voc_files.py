"""The files of a set in VOC's layout: lists of names, and which images and masks they mean."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")  # the first that is there
MASK_ENDINGS = (".png",)

Files = npt.NDArray[np.bytes_]


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without white space around.

    Raises:
        DataError: where it cannot be read.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise DataError(
            f"{file} cannot be read ({reason}); allowed is a text file with one name a line; set "
            "data.root, data.train_list, data.val_list"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def find_files(file: Path, images: Path, masks: Path) -> tuple[Files, Files]:
    """Which images and masks a list means.

    All are flat arrays: Python strings would be copied into every worker bit by bit.

    Args:
        file: names of images, without ending, one a line.
        images: folder of the images.
        masks: folder of the masks.

    Returns:
        Paths within both folders.

    Raises:
        DataError: where the list is missing or empty, or a file that it names is absent.
    """
    names = read_lines(file)
    if not names:
        raise DataError(f"{file} names no image; allowed is a list of names, one a line")
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(
                f"data.root: {folder} does not exist; allowed is a folder in VOC's layout; set "
                "data.root, data.images, data.masks"
            )
    return find(file, names, images, IMAGE_ENDINGS), find(file, names, masks, MASK_ENDINGS)


def find(file: Path, names: list[str], folder: Path, endings: tuple[str, ...]) -> Files:
    """The file of each name, with one of some endings.

    Raises:
        DataError: where one is absent.
    """
    # Folders are listed: asking for each file would take minutes on a network's disk.
    listed: dict[str, dict[str, str]] = {}
    found, absent = [], []
    for name in names:
        parent, stem = os.path.split(name)
        if parent not in listed:
            listed[parent] = by_stem(folder / parent, endings)
        if stem in listed[parent]:
            found.append(os.fsencode(Path(parent, listed[parent][stem])))
        else:
            absent.append(name)
    if absent:
        raise DataError(
            f"{folder / absent[0]}{' or '.join(endings)} does not exist, which {file} lists; "
            f"{len(absent):,} of {len(names):,} files are absent; fetch them, set data.root, or "
            "take them out of the list, which has names without endings, one a line"
        )
    return np.array(found)


def by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """Names of the files of a folder by what is in front of their ending; none without a folder."""
    try:
        listed = [Path(entry.name) for entry in os.scandir(folder)]
    except OSError:
        return {}
    return {
        file.stem: file.name
        for ending in reversed(endings)  # the first one stays
        for file in listed
        if file.suffix.lower() == ending
    }
