"""Copies of the files of a store on this machine, of a bounded total size.

Which files are copied is a function of the listing: files in the order of a hash, until the bound
is reached. So nothing needs to be counted or agreed on among processes, and the bound always holds.
An epoch reads every file once, in random order. Then a fixed choice is the best one: with any
replacement of old copies by new ones, most copies would be gone before they are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parcnet_train.data.stores.listing import Listing
from parcnet_train.errors import UnwritableError, reason_of
from parcnet_train.files import write_once

DIGEST = 16  # bytes before the content of a copy, which detect a damaged copy
FOLDERS = 256
CHOICE = "choice.sha256"  # file with a hash of the listing and the bound of the existing copies
WHOLE = "whole"  # folder of files that are read from the disk, such as annotations
CONTENT = "content"  # name of such a file, each in a folder of its own


class Copies:
    """Copies of the files of one store.

    Args:
        folder: Folder for the copies of all stores.
        url: Address of the store.
        bound: Largest total size of the copies, in bytes.
    """

    def __init__(self, folder: Path, url: str, bound: int) -> None:
        self.folder = folder / key_of(url.encode())
        self.bound = bound
        self.listing: Listing | None = None
        self.is_chosen: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    def choose(self, listing: Listing) -> None:
        """Choose the files to copy, and remove copies of files that are not chosen any more."""
        self.listing = listing
        self.is_chosen = chosen(listing, self.bound)
        choice = f"{listing.digest()} {self.bound}"
        record = self.folder / CHOICE
        with contextlib.suppress(OSError):
            if record.read_text() == choice:
                return
        with contextlib.suppress(OSError):  # a full or read-only disk: then there are no copies
            self.remove_others()
            self.folder.mkdir(parents=True, exist_ok=True)
            record.write_text(choice)

    def remove_others(self) -> None:
        """Remove the copies of files that are not chosen."""
        kept = {self.path(position) for position in np.flatnonzero(self.is_chosen).tolist()}
        for folder in (self.folder / f"{number:02x}" for number in range(FOLDERS)):
            for path in folder.glob("*"):
                if path not in kept:
                    path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / WHOLE, ignore_errors=True)

    def key(self, position: int) -> str:
        """Return the name of a copy, which changes with the version of the file."""
        assert self.listing is not None
        listing = self.listing
        size = str(listing.sizes[position]).encode()
        return key_of(b"\0".join([listing.names[position], size, listing.versions[position]]))

    def path(self, position: int) -> Path:
        """Return the path of the copy of a file, which may not exist."""
        key = self.key(position)
        return self.folder / key[:2] / key[2:]

    def read(self, position: int) -> bytes | None:
        """Return the content of a file; None if there is no undamaged copy."""
        if not self.is_chosen[position]:
            return None
        try:
            stored = self.path(position).read_bytes()
        except OSError:
            return None
        content = stored[DIGEST:]
        return content if stored[:DIGEST] == checksum(content) else None

    def write(self, position: int, content: bytes) -> None:
        """Write a copy if the file is one of those to copy; do nothing if the disk is full."""
        if not self.is_chosen[position]:
            return
        path = self.path(position)
        # Not `whole_file`: a lost copy is fetched again, and a flush per image would take longer.
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(checksum(content) + content)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()

    def whole(self, position: int, fetch: Callable[[], bytes]) -> Path:
        """Return the path of a copy that has nothing but the content, whatever the bound is.

        Args:
            position: Position of the file in the listing.
            fetch: Function that returns its content.

        Raises:
            UnwritableError: If the file cannot be written.
        """
        folder = self.folder / WHOLE / self.key(position)
        try:
            write_once(folder, lambda partial: (partial / CONTENT).write_bytes(fetch()))
        except OSError as error:
            raise UnwritableError(
                f"paths.cache: {folder} cannot be written: {reason_of(error)}. Fix: free some disk "
                "space, or set paths.cache=PATH"
            ) from error
        return folder / CONTENT


def chosen(listing: Listing, bound: int) -> npt.NDArray[np.bool_]:
    """Return which files are copied, `(n,)`: in the order of a hash, until the bound is reached."""
    if not len(listing):
        return np.zeros(0, np.bool_)
    order = np.argsort([key_of(name) for name in listing.names.tolist()], kind="stable")
    total = np.cumsum(listing.sizes[order] + DIGEST)
    result = np.zeros(len(listing), np.bool_)
    result[order[total <= bound]] = True
    return result


def checksum(content: bytes) -> bytes:
    """Return the checksum of a copy."""
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def key_of(text: bytes) -> str:
    """Return a name for a file or folder of copies."""
    return hashlib.sha256(text).hexdigest()[:32]
