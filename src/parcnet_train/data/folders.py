"""One folder of images per class: which classes and which files there are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.data.near_files import hint
from parcnet_train.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the class folders, whose position is the class index.

    Raises:
        DataError: where the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.root: {folder} does not exist{hint(folder.parent, folder.name)}; allowed is a "
            "folder that holds one folder of images per class; set data.root, data.train_dir, "
            "data.val_dir"
        )
    entries = (entry for entry in os.scandir(folder) if not entry.name.startswith("."))
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise DataError(f"data.root: {folder} holds no class folders")
    return names


def refuse_unknown(folder: Path, name: str, class_names: Sequence[str]) -> None:
    """Refuses a class folder that the training set has not.

    Raises:
        DataError: where it has not.
    """
    if name not in class_names:
        raise DataError(f"data.root: {folder / name} is a class that the training set has not")


def list_images(
    folder: Path, class_names: Sequence[str]
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int64]]:
    """Paths, relative to the folder, and class indices of all images in its class folders.

    Both are flat arrays: a million Python strings would be copied into every worker bit by bit.

    Raises:
        DataError: where a class folder is unknown or holds no image.
    """
    paths: list[bytes] = []
    labels: list[int] = []
    for name in class_folders(folder):
        refuse_unknown(folder, name, class_names)
        found = sorted(
            f"{name}/{entry.name}"
            for entry in os.scandir(folder / name)
            if entry.name.lower().endswith(EXTENSIONS)
            and not entry.name.startswith(".")
            and entry.is_file()
        )
        if not found:
            raise DataError(
                f"data.root: class folder {folder / name} holds no image "
                f"({' '.join(EXTENSIONS)}); fill or remove it"
            )
        paths += map(os.fsencode, found)
        labels += [class_names.index(name)] * len(found)
    return np.array(paths), np.array(labels)
