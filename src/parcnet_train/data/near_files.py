"""Search for the file that a wrong name probably means: other case, `%20`, backslashes."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from parcnet_train.data.stores.paths import AnyPath, StoredPath, scan

SUBFOLDERS = 50  # largest number of subfolders to search
NO_IMAGES = (".csv", ".json", ".md", ".txt", ".xml", ".yaml", ".yml")  # often beside images


def hint(folder: AnyPath, name: str) -> str:
    """Return a hint for a message about a missing file; empty if no similar file is found.

    Args:
        folder: Folder in which the file was expected.
        name: Path of the file relative to that folder, as given in a list or an annotation file.
    """
    found = near_file(folder, name)
    if found is None:
        return ""
    reason = " (with slashes instead of backslashes)" if "\\" in name else ""
    return f", but {found} exists{reason}"


def near_file(folder: AnyPath, name: str) -> AnyPath | None:
    """Find the existing file or folder that a name most probably means.

    Names are compared without regard to case, URL escapes such as `%20`, composed or decomposed
    Unicode letters, and the kind of slashes; then also without suffix. The search covers the path
    that the name gives, the folder itself, its subfolders, and its parent.

    Args:
        folder: Folder in which the file was expected.
        name: Path of the file relative to that folder, with or without suffix.

    Returns:
        Path of the file. None if no similar file exists, the folder does not exist, or the name
        itself exists.
    """
    if not folder.is_dir() or is_there(folder / name):
        return None
    *parents, last = [part for part in plain(name).split("/") if part] or [""]
    folders = list(dict.fromkeys(folders_of(folder, parents)))
    stem = Path(last).stem
    listed = [(place, sorted(names_in(place))) for place in folders]
    for place, names in listed:
        for other in names:
            if plain(other) == last:
                return place / other
    for place, names in listed:
        for other in names:
            file = Path(plain(other))
            if file.stem in (last, stem) and file.suffix not in NO_IMAGES:
                return place / other
    return None


def folders_of(folder: AnyPath, parents: list[str]) -> Iterator[AnyPath]:
    """Yield the folders in which a file may be.

    Args:
        folder: Folder in which it was expected.
        parents: Folders on the path within that folder, in the form that `plain` returns.
    """
    # The paths of a list may repeat the last folders of `folder`, or lack them.
    for start in (folder, folder.parent):
        places = [start]
        for part in parents:
            places = [place / n for place in places for n in names_in(place) if plain(n) == part]
        yield from places
        if start == folder:
            yield folder
            yield from subfolders(folder)


def subfolders(folder: AnyPath) -> list[AnyPath]:
    """Return the first subfolders of a folder; empty if it does not exist."""
    try:
        names = sorted(entry.name for entry in scan(folder) if entry.is_dir())
    except (OSError, ValueError):  # ValueError: a null character
        return []
    return [folder / name for name in names[:SUBFOLDERS]]


def is_there(path: AnyPath) -> bool:
    """Return whether a path exists, maybe as a link to nothing."""
    return path.exists() if isinstance(path, StoredPath) else os.path.lexists(path)


def plain(name: str) -> str:
    """Return the normalized form of a name, used for comparison."""
    return unicodedata.normalize("NFC", unquote(name).replace("\\", "/")).casefold().strip()


def names_in(folder: AnyPath) -> set[str]:
    """Return the names of all entries of a folder; empty if it does not exist."""
    try:
        return {entry.name for entry in scan(folder)}
    except (OSError, ValueError):  # ValueError: a null character
        return set()
