"""Data sets whose images are packed into shards by `action=prepare prepare.pack=true`.

A packed folder has everything but the images under the paths that they had. The images are items
of shards in litData's optimized format, which its StreamingDataset reads as well. `packed.npz` has
the part of a shard that holds each image, so that images are read in any order: a training reads
them in the order of its own schedule.
"""

from __future__ import annotations

import io
import os
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.folders import walk
from parcnet_train.data.stores.copies import Copies
from parcnet_train.data.stores.listing import Listed, Listing, make_listing
from parcnet_train.data.stores.store import Piece, PieceStore, Store, StoreError

INDEX = "packed.npz"
LIT_INDEX = "index.json"  # litData's own list of shards
VERSION = 1  # of packed.npz


class PackedImages(NamedTuple):
    """Content of `packed.npz`: where each image is.

    Attributes:
        names: Paths of the images below the root, `(n,)` bytes, sorted.
        shards: Position in `shard_names` of the shard of each image, `(n,)` int32.
        starts: First byte in the shard, `(n,)` int64.
        sizes: Numbers of bytes, `(n,)` int64.
        checksums: CRC-32 of each image, `(n,)` uint32.
        shard_names: Names of the shards, `(k,)` bytes.
        shard_sizes: Numbers of bytes of the shards, `(k,)` int64.
    """

    names: npt.NDArray[np.bytes_]
    shards: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.uint32]
    shard_names: npt.NDArray[np.bytes_]
    shard_sizes: npt.NDArray[np.int64]


def read_index(content: bytes, shown: str) -> PackedImages:
    """Read `packed.npz`.

    Raises:
        StoreError: If it is damaged or has another version.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            version = int(file["version"])
            images = PackedImages(*(file[name] for name in PackedImages._fields))
    except Exception as error:  # numpy raises nearly anything for a damaged file
        raise StoreError(
            f"{shown} cannot be read; expected the index of a packed data set. Fix: pack it again "
            "with action=prepare prepare.pack=true"
        ) from error
    if version != VERSION:
        raise StoreError(
            f"{shown} has version {version}; expected {VERSION}. Fix: pack the data set again with "
            "action=prepare prepare.pack=true"
        )
    return images


class FolderStore(PieceStore):
    """Files of a folder of this machine.

    Args:
        folder: Path of the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder

    def list_files(self) -> Listing:
        """List all files."""
        return make_listing(
            Listed(os.fsencode(f"{inside}{entry.name}"), status.st_size, b"%d" % status.st_mtime_ns)
            for inside, entries in walk(self.folder)
            for entry in entries or ()
            for status in [(self.folder / f"{inside}{entry.name}").stat()]
        )

    def fetch_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read parts of files, see `PieceStore`; a whole file is read as it is now."""
        return [self.read_piece(piece) for piece in pieces]

    def read_piece(self, piece: Piece) -> bytes:
        """Read a part of a file.

        Raises:
            OSError: If it cannot be read.
            StoreError: If it does not match its checksum.
        """
        path = self.folder / os.fsdecode(self.listing.names[piece.position])
        if piece.checksum is None:
            return path.read_bytes()
        with path.open("rb") as file:
            file.seek(piece.start)
            content = file.read(piece.length)
        if zlib.crc32(content) != piece.checksum:
            raise StoreError(
                f"{path}: {piece.length:,} bytes from byte {piece.start:,} on do not match their "
                "checksum; expected what was packed. Fix: copy this file again"
            )
        return content

    def local(self, name: str) -> Path:
        """Return the path of a file, see `Store.local`."""
        self.position(name)
        return self.folder / name


class PackedStore(Store):
    """Files of another store, some of which may be in shards.

    Args:
        base: Store that has the files and the shards.
        copies: Copies of some files on this machine; None for a folder of this machine.
    """

    def __init__(self, base: PieceStore, copies: Copies | None = None) -> None:
        super().__init__(base.url, copies)
        self.base = base
        self.images: PackedImages | None = None

    def list_files(self) -> Listing:
        """List the images in the shards and all other files.

        Raises:
            StoreError: If the store cannot be listed, or a shard is not the one of the index.
        """
        outer = self.base.listing
        index = outer.position(INDEX.encode())
        if index is None:
            return outer
        images = read_index(self.base.fetch([index])[0], self.shown(INDEX))
        self.refuse_other_shards(images)
        self.images = images
        own = {INDEX.encode(), LIT_INDEX.encode(), *images.shard_names.tolist()}
        rows = zip(
            images.names.tolist(), images.sizes.tolist(), images.checksums.tolist(), strict=True
        )
        plain = zip(
            outer.names.tolist(), outer.sizes.tolist(), outer.versions.tolist(), strict=True
        )
        return make_listing(
            [
                *(Listed(name, size, b"crc32:%08x" % checksum) for name, size, checksum in rows),
                *(Listed(*each) for each in plain if each[0] not in own),
            ]
        )

    def refuse_other_shards(self, images: PackedImages) -> None:
        """Check that all shards of the index exist, with their sizes.

        Raises:
            StoreError: If one does not.
        """
        outer = self.base.listing
        shards = zip(images.shard_names.tolist(), images.shard_sizes.tolist(), strict=True)
        for name, size in shards:
            position = outer.position(name)
            found = None if position is None else int(outer.sizes[position])
            if found != size:
                problem = "it does not exist" if found is None else f"it has {found:,} bytes"
                raise StoreError(
                    f"{self.shown(os.fsdecode(name))}: {problem}; expected the shard of {size:,} "
                    f"bytes that {INDEX} describes. Fix: copy the whole packed folder again"
                )

    def fetch(self, positions: Sequence[int]) -> list[bytes]:
        """Read files at once, see `Store.fetch`."""
        names = [self.listing.names[each] for each in positions]
        return self.base.fetch_pieces([self.piece(name) for name in names])

    def piece(self, name: bytes) -> Piece:
        """Return the part of a file of the other store that holds a file of this one."""
        images = self.images
        row = None if images is None else row_of(images, name)
        if images is None or row is None:
            return self.base.whole(self.base.position(os.fsdecode(name)))
        return Piece(
            self.base.position(os.fsdecode(images.shard_names[images.shards[row]])),
            int(images.starts[row]),
            int(images.sizes[row]),
            int(images.checksums[row]),
        )

    def local(self, name: str) -> Path:
        """Return the path of a file, or of a local copy of it; see `Store.local`."""
        return self.base.local(name) if self.copies is None else super().local(name)


def row_of(images: PackedImages, name: bytes) -> int | None:
    """Return the row of an image in the index; None if it is not in a shard."""
    found = bisect_left(images.names, name)
    return found if found < len(images.names) and images.names[found] == name else None
