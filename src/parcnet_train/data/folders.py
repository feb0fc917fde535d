"""Images in folders: listing them, and reporting files that are left out."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import SUFFIXES
from parcnet_train.data.near_files import hint
from parcnet_train.data.stores.paths import AnyPath, Entry, real_path, scan
from parcnet_train.errors import DataError, printable, unfit_name

log = logging.getLogger(__name__)

# Folders that systems create beside images, often with files of the same names: macOS archives,
# thumbnails of Synology and QNAP, recycle bins. Lower case.
OF_SYSTEMS = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recycle",
        "@__thumb",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "lost+found",
        "system volume information",
        "__pycache__",
    }
)

# Suffixes or names, in lower case, of files that are certainly not images.
NO_IMAGES = frozenset(
    {
        ".txt",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".md",
        ".rst",
        ".html",
        ".htm",
        ".css",
        ".js",
        ".py",
        ".ipynb",
        ".sh",
        ".log",
        ".ini",
        ".db",
        ".lst",
        ".md5",
        ".sha1",
        ".sha256",
        ".zip",
        ".tar",
        ".gz",
        ".tgz",
        ".7z",
        ".rar",
        ".lnk",
        ".url",
        "readme",
        "license",
        "makefile",
        "checksums",
    }
)

Entries = list[Entry]

OUTSIDE = "beside the class folders"
NO_FILES = "broken links or other entries that are not files"
CLOSED = "folders that cannot be opened"


class LeftOut(NamedTuple):
    """File that is not read although it may be an image.

    Attributes:
        kind: Suffix of the file, or a description; files of the same kind are reported together.
        name: Path relative to the folder.
    """

    kind: str
    name: str


class Contents(NamedTuple):
    """Contents of a folder and its subfolders, as relative paths.

    Attributes:
        images: Files with the suffix of an image, sorted.
        no_files: Entries with the suffix of an image that are not files, such as broken links,
            FIFOs and devices; sorted.
        others: Other files that may be images, sorted.
    """

    images: list[str]
    no_files: list[str]
    others: list[LeftOut]


def walk(folder: AnyPath, skipped: Sequence[AnyPath] = ()) -> Iterator[tuple[str, Entries | None]]:
    """Walk through a folder and its subfolders, each once, and follow links.

    Hidden files and folders, and folders created by systems, are left out, and so are links to the
    whole disk.

    Args:
        folder: Folder to start from.
        skipped: Folders that are left out, also if a link leads to them.

    Yields:
        Relative path of each folder, empty or with a slash at its end, and its entries other than
        folders; None instead of the entries if the folder cannot be opened.
    """
    start = real_path(folder)
    seen = {Path(start).anchor, *map(real_path, skipped)} - {start}
    # Links come last, so that a file is found under its own path, not under that of a link.
    waiting = deque([""])
    while waiting:
        inside = waiting.popleft()
        here = folder / inside
        real = real_path(here)
        if real in seen:
            continue
        seen.add(real)
        files: Entries = []
        folders: list[str] = []
        links: list[str] = []
        try:
            for entry in scan(here):
                if entry.name.startswith("."):
                    continue
                if not is_folder(entry):
                    files.append(entry)
                elif entry.name.lower() not in OF_SYSTEMS:
                    (links if entry.is_symlink() else folders).append(f"{inside}{entry.name}/")
        except OSError:
            yield inside, None
            continue
        yield inside, files
        waiting.extendleft(sorted(folders, reverse=True))
        waiting.extend(sorted(links))


def contents_of(folder: AnyPath, skipped: AnyPath | None = None) -> Contents:
    """List the files of a folder and its subfolders; see `walk`."""
    images: list[str] = []
    no_files: list[str] = []
    others: list[LeftOut] = []
    for inside, entries in walk(folder, [skipped] if skipped else []):
        if entries is None:
            others.append(LeftOut(CLOSED, inside or str(folder)))
            continue
        for entry in entries:
            lower = entry.name.lower()
            if lower.endswith(SUFFIXES):
                (images if is_file(entry) else no_files).append(inside + entry.name)
            elif may_be_image(lower):
                others.append(LeftOut(suffix_of(lower), inside + entry.name))
    return Contents(sorted(images), sorted(no_files), sorted(others))


def is_file(entry: Entry) -> bool:
    """Return whether an entry is a file or a link to one; a link to itself is not."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: Entry) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def may_be_image(name: str) -> bool:
    """Return whether a file may be an image, judged by its name in lower case."""
    return name not in NO_IMAGES and suffix_of(name) not in NO_IMAGES


def suffix_of(name: str) -> str:
    """Return the suffix of a file name, or a description if it has none."""
    return Path(name).suffix or "without a suffix"


def describe(left_out: Sequence[LeftOut]) -> str:
    """Describe the files that are left out: their number by kind, and the first of each kind."""
    kinds: dict[str, list[str]] = {}
    for kind, name in sorted(left_out):
        kinds.setdefault(kind, []).append(name)
    return ", ".join(
        f"{len(names):,} {kind} (first {names[0]})"
        for kind, names in sorted(kinds.items(), key=lambda item: -len(item[1]))
    )


def warn_of_left_out(folder: AnyPath, left_out: Sequence[LeftOut]) -> None:
    """Warn about files that are not read, in one line."""
    if left_out:
        log.warning(
            "data.root: %s contains files that may be images but are left out: %s. Fix: convert "
            "them, move them into the folder of their class, or remove them",
            folder,
            describe(left_out),
        )


def class_folders(folder: AnyPath) -> list[str]:
    """Return the sorted names of the class folders; the position of a name is its class index.

    Raises:
        DataError: If the folder does not exist, has no class folders, or one with an unfit
            name.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.root: {folder} does not exist{hint(folder.parent, folder.name)}; expected a "
            "folder that contains one folder of images per class. Fix: set data.root, "
            "data.train_dir, data.val_dir or data.test_dir"
        )
    names = sorted(
        entry.name
        for entry in scan(folder)
        if not entry.name.startswith(".") and entry.name.lower() not in OF_SYSTEMS
        if is_folder(entry)
    )
    if not names:
        raise DataError(
            f"data.root: {folder} contains no class folders; expected one folder of images per "
            "class"
        )
    for name in names:
        if problem := unfit_name(name):
            raise DataError(
                f"data.root: the name of the class folder {folder / printable(name)} {problem}; "
                "expected printable UTF-8 text. Fix: rename it"
            )
    return names


def labels_of(class_names: Sequence[str]) -> dict[str, int | None]:
    """Return the class index of every class folder; the folders have the names of the classes."""
    return {name: index for index, name in enumerate(class_names)}


def refuse_unknown(folder: AnyPath, name: str, known: Container[str]) -> None:
    """Check that a class folder is one of the classes of the training set.

    Raises:
        DataError: If it is not.
    """
    if name not in known:
        raise DataError(
            f"data.root: {folder / name}: this class does not occur in the training set"
        )


class ListedImages(NamedTuple):
    """Images found in class folders.

    Attributes:
        paths: Paths relative to the folder of the classes.
        labels: Class indices.
        left_out: Files that are not read although they may be images.
    """

    paths: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.int64]
    left_out: list[LeftOut]


def list_images(folder: AnyPath, label_of: Mapping[str, int | None]) -> ListedImages:
    """List all images in the class folders and their subfolders.

    Paths and labels are flat arrays: loader processes would gradually copy a million Python strings
    into their own memory.

    Args:
        folder: Folder of the class folders.
        label_of: Class index by name of the class folder; None: its images are not listed.

    Raises:
        DataError: If a class folder is unknown or contains no image.
    """
    paths: list[bytes] = []
    labels: list[int] = []
    left_out = list(outside_of_classes(folder))
    for name in class_folders(folder):
        refuse_unknown(folder, name, label_of)
        if (label := label_of[name]) is None:
            continue
        found = contents_of(folder / name)
        others = [*found.others, *(LeftOut(NO_FILES, each) for each in found.no_files)]
        left_out += [LeftOut(kind, f"{name}/{each}") for kind, each in others]
        if not found.images:
            there = f"; it contains {describe(others)}" if others else ""
            raise DataError(
                f"data.root: the class folder {folder / name} contains no image "
                f"({' '.join(SUFFIXES)}){there}. Fix: add images or remove the folder"
            )
        paths += [os.fsencode(f"{name}/{each}") for each in found.images]
        labels += [label] * len(found.images)
    return ListedImages(np.array(paths), np.array(labels), left_out)


def outside_of_classes(folder: AnyPath) -> Iterator[LeftOut]:
    """Yield images beside the class folders, which have no class."""
    if folder.is_dir():
        for entry in scan(folder):
            hidden = entry.name.startswith(".")
            if entry.name.lower().endswith(SUFFIXES) and not hidden and is_file(entry):
                yield LeftOut(OUTSIDE, entry.name)
