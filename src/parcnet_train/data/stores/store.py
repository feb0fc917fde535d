"""Reading the files of a store: copies on this machine, and reading ahead."""

from __future__ import annotations

import errno
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from parcnet_train.data.stores.copies import Copies
from parcnet_train.data.stores.listing import Listing
from parcnet_train.errors import DataError


class StoreError(DataError):
    """A store cannot be read.

    It is not an unreadable image, which `data.on_error=skip` would leave out: which images a
    training sees must not depend on the network.
    """


class Piece(NamedTuple):
    """Part of a file.

    Attributes:
        position: Position of the file in the listing.
        start: First byte.
        length: Number of bytes.
        checksum: CRC-32 of the part; None if it has none.
    """

    position: int
    start: int
    length: int
    checksum: int | None = None


class Store(ABC):
    """Files that are read by name.

    Args:
        url: Address of the root, for messages.
        copies: Copies of some files on this machine; None: every reading goes to the store.
    """

    def __init__(self, url: str, copies: Copies | None = None) -> None:
        self.url = url
        self.copies = copies
        self._ahead: dict[int, Mapping[str, bytes]] = {}  # by thread: checks read in threads

    @cached_property
    def listing(self) -> Listing:
        """All files; listed at the first use, and not again in this process.

        Raises:
            StoreError: If the store cannot be listed.
        """
        listing = self.list_files()
        if self.copies is not None:
            self.copies.choose(listing)
        return listing

    @abstractmethod
    def list_files(self) -> Listing:
        """List all files."""

    @abstractmethod
    def fetch(self, positions: Sequence[int]) -> list[bytes]:
        """Read files at once.

        Args:
            positions: Positions of the files in the listing.

        Returns:
            Contents, each of which has been verified.

        Raises:
            StoreError: If a file cannot be read, or is not the one that was listed.
        """

    def position(self, name: str) -> int:
        """Return the position of a file in the listing.

        Raises:
            FileNotFoundError: If there is no file of this name.
        """
        position = self.listing.position(os.fsencode(name))
        if position is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.shown(name))
        return position

    def shown(self, name: str) -> str:
        """Return the address of a file."""
        return f"{self.url}/{name}" if name else self.url

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: If there is no file of this name.
            StoreError: If it cannot be read, or is not the one that was listed.
        """
        ahead = self._ahead.get(threading.get_ident(), {})
        return ahead[name] if name in ahead else self.read_all([name])[name]

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of several files, which are fetched at once; see `read`."""
        positions = {name: self.position(name) for name in names}
        found: dict[str, bytes] = {}
        if self.copies is not None:
            for name, position in positions.items():
                if (content := self.copies.read(position)) is not None:
                    found[name] = content
        absent = [name for name in positions if name not in found]
        fetched = self.fetch([positions[name] for name in absent]) if absent else []
        for name, content in zip(absent, fetched, strict=True):
            found[name] = content
            if self.copies is not None:
                self.copies.write(positions[name], content)
        return found

    @contextmanager
    def ahead(self, names: Sequence[str]) -> Iterator[None]:
        """Fetch files at once, for readings of this thread within the block.

        A name that does not exist is left to the reading, which reports it.
        """
        known = [name for name in names if self.listing.position(os.fsencode(name)) is not None]
        self._ahead[threading.get_ident()] = self.read_all(known)
        try:
            yield
        finally:
            del self._ahead[threading.get_ident()]

    def local(self, name: str) -> Path:
        """Return the path of a local copy of a file, such as a file of annotations.

        Raises:
            FileNotFoundError: If there is no file of this name.
            StoreError: If it cannot be read.
        """
        assert self.copies is not None
        position = self.position(name)
        return self.copies.whole(position, lambda: self.fetch([position])[0])


class PieceStore(Store):
    """Files that can also be read in part, as `PackedStore` reads shards."""

    @abstractmethod
    def fetch_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read parts of files at once.

        Args:
            pieces: Parts of files to read.

        Returns:
            Contents, each of which has been verified.

        Raises:
            StoreError: If one cannot be read, or its file is not the one that was listed.
        """

    def whole(self, position: int) -> Piece:
        """Return a piece that is a whole file."""
        return Piece(position, 0, int(self.listing.sizes[position]))

    def fetch(self, positions: Sequence[int]) -> list[bytes]:
        """Read whole files at once, see `Store.fetch`."""
        return self.fetch_pieces([self.whole(position) for position in positions])
