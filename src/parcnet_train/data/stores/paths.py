"""Paths in a store, with the part of `pathlib.Path` that data modules use."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple, TextIO

from parcnet_train.data.stores.store import Store
from parcnet_train.errors import DataError


class StoredEntry(NamedTuple):
    """Entry of a folder in a store, with the part of `os.DirEntry` that listings use."""

    name: str
    is_folder: bool

    def is_file(self) -> bool:
        """Return whether the entry is a file."""
        return not self.is_folder

    def is_dir(self) -> bool:
        """Return whether the entry is a folder."""
        return self.is_folder

    def is_symlink(self) -> bool:
        """Return False: a store has no links."""
        return False


class StoredPath:
    """Path of a file or folder in a store; the methods are those of `pathlib.Path`.

    It is not a subclass of `Path`: everything that would read it as a local path fails.

    Args:
        store: Store of the path.
        name: Path below its root, without a leading slash; empty for the root.
    """

    def __init__(self, store: Store, name: str = "") -> None:
        self.store = store
        self.pure = PurePosixPath(os.path.normpath(name) if name else "")

    @property
    def inner(self) -> str:
        """Path below the root of the store; empty for the root."""
        return "" if self.pure == PurePosixPath() else str(self.pure)

    def __truediv__(self, other: str | PurePath) -> AnyPath:
        # As in pathlib, an absolute path replaces everything: it is one of this machine.
        if PurePosixPath(other).is_absolute():
            return Path(other)
        return StoredPath(self.store, str(self.pure / other))

    def __str__(self) -> str:
        return self.store.shown(self.inner)

    def __repr__(self) -> str:
        return f"StoredPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: StoredPath) -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.pure.name

    @property
    def stem(self) -> str:
        """Last part of the path without its suffix."""
        return self.pure.stem

    @property
    def suffix(self) -> str:
        """Suffix of the last part."""
        return self.pure.suffix

    @property
    def parent(self) -> StoredPath:
        """Folder of the path; the root is its own parent."""
        return StoredPath(self.store, str(self.pure.parent))

    def is_dir(self) -> bool:
        """Return whether there is a file below this path."""
        return self.store.listing.has_folder(os.fsencode(self.inner))

    def is_file(self) -> bool:
        """Return whether there is a file of this name."""
        return self.store.listing.position(os.fsencode(self.inner)) is not None

    def exists(self) -> bool:
        """Return whether there is a file or folder of this name."""
        return self.is_file() or self.is_dir()

    def entries(self) -> Iterator[StoredEntry]:
        """Yield the entries of a folder, sorted.

        Raises:
            FileNotFoundError: If it does not exist.
        """
        if not self.is_dir():
            self.store.position(self.inner)
            raise NotADirectoryError(20, "it is a file, not a folder", str(self))
        for name, is_folder in self.store.listing.entries(os.fsencode(self.inner)):
            yield StoredEntry(os.fsdecode(name), is_folder)

    def glob(self, pattern: str) -> Iterator[AnyPath]:
        """Yield the entries of a folder whose names match a pattern without slashes."""
        if self.is_dir():
            for entry in self.entries():
                if fnmatch.fnmatchcase(entry.name, pattern):
                    yield self / entry.name

    def stat(self) -> os.stat_result:
        """Return size and mode; the time of change is a hash of the version.

        Raises:
            FileNotFoundError: If there is no file or folder of this name.
        """
        if self.is_dir():
            return os.stat_result((stat.S_IFDIR | 0o555, *[0] * 9))
        listing, position = self.store.listing, self.store.position(self.inner)
        size = int(listing.sizes[position])
        version = hashlib.sha256(listing.versions[position]).digest()
        changed = int.from_bytes(version[:6], "big")
        fields = (stat.S_IFREG | 0o444, *[0] * 5, size, 0, 0, 0)
        return os.stat_result(fields, {"st_mtime_ns": changed})

    def read_bytes(self) -> bytes:
        """Return the content of a file; raises the errors of `Store.read`."""
        return self.store.read(self.inner)

    def open(self, encoding: str, newline: str | None = None) -> TextIO:
        """Open a text for reading, from a copy on this machine, since annotations are large.

        Raises:
            FileNotFoundError: If there is no file of this name.
            StoreError: If it cannot be read, or is not the one that was listed.
        """
        return self.store.local(self.inner).open(encoding=encoding, newline=newline)


AnyPath = Path | StoredPath
Entry = os.DirEntry[str] | StoredEntry


def scan(folder: AnyPath) -> Iterable[Entry]:
    """Return the entries of a folder.

    Raises:
        OSError: If it cannot be listed.
    """
    if isinstance(folder, StoredPath):
        return folder.entries()
    with os.scandir(folder) as entries:  # closed also if the caller stops early
        return list(entries)


def local_folder(path: AnyPath, reader: str) -> Path:
    """Return the path of a folder of this machine.

    Args:
        path: Path of the folder.
        reader: Name of what reads it, for the message.

    Raises:
        DataError: If it is in an object store or packed.
    """
    if isinstance(path, StoredPath):
        raise DataError(
            f"data.root={path.store.url}: {reader} reads only a folder of this machine that is not "
            "packed; expected its path. Fix: copy the data set to this machine"
        )
    return path


def absolute(path: AnyPath) -> str:
    """Return the absolute path of a file or folder, or its address."""
    return str(path) if isinstance(path, StoredPath) else str(path.absolute())


def read_ahead(paths: Iterable[AnyPath]) -> AbstractContextManager[None]:
    """Fetch the files of a store at once, for readings within the block; see `Store.ahead`."""
    stored = [path for path in paths if isinstance(path, StoredPath)]
    if not stored:
        return nullcontext()
    return stored[0].store.ahead([path.inner for path in stored])


def real_path(path: AnyPath) -> str:
    """Return the path without links, which identifies a file or folder."""
    return str(path) if isinstance(path, StoredPath) else os.path.realpath(path)
