"""The file that is probably meant by a name that does not exist: other case, `%20`, backslashes."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

SUBFOLDERS = 50  # of a folder that are searched
NO_IMAGES = (".csv", ".json", ".md", ".txt", ".xml", ".yaml", ".yml")  # that lie beside images


def hint(folder: Path, name: str) -> str:
    """Words for a message about an absent file; empty where no similar file is found.

    Args:
        folder: Folder in which the file was expected.
        name: Its path within that folder, as a list or an annotation file gives it.
    """
    found = near_file(folder, name)
    if found is None:
        return ""
    reason = " (with slashes instead of backslashes)" if "\\" in name else ""
    return f", but {found} exists{reason}"


def near_file(folder: Path, name: str) -> Path | None:
    """The existing file or folder that a name most probably means.

    Compared are names without regard to case, `%20` and the like, Unicode's composed and decomposed
    letters, and slashes; then without the suffix. It is looked for where the name says, in the
    folder itself, in the subfolders of the folder, and in the folder's parent.

    Args:
        folder: Folder in which the file was expected.
        name: Its path within that folder, with or without suffix.

    Returns:
        None if there is none, the folder does not exist, or the name itself does.
    """
    if not folder.is_dir() or os.path.lexists(folder / name):
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


def folders_of(folder: Path, parents: list[str]) -> Iterator[Path]:
    """Folders in which a file may be.

    Args:
        folder: Folder in which it was expected.
        parents: Folders within that folder, as `plain` writes them.
    """
    # A list may repeat the last folders of the path, or lack them.
    for start in (folder, folder.parent):
        places = [start]
        for part in parents:
            places = [place / n for place in places for n in names_in(place) if plain(n) == part]
        yield from places
        if start == folder:
            yield folder
            yield from subfolders(folder)


def subfolders(folder: Path) -> list[Path]:
    """The first subfolders of a folder; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
    return [folder / name for name in names[:SUBFOLDERS]]


def plain(name: str) -> str:
    """A name in the one form that names are compared in."""
    return unicodedata.normalize("NFC", unquote(name).replace("\\", "/")).casefold().strip()


def names_in(folder: Path) -> set[str]:
    """Names of what is in a folder; none if there is no such folder."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()
