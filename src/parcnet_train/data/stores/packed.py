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
from parcnet_train.data.stores.remote import Piece, RemoteStore
from parcnet_train.data.stores.store import Store, StoreError

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


class PackedStore(Store):
    """Files of a folder or of an object store, some of which may be in shards.

    Args:
        base: Folder of this machine, or object store.
        copies: Copies of some files on this machine; None for a folder.
    """

    def __init__(self, base: Path | RemoteStore, copies: Copies | None = None) -> None:
        super().__init__(base.url if isinstance(base, RemoteStore) else str(base), copies)
        self.base = base
        self.images: PackedImages | None = None

    def list_files(self) -> Listing:
        """List the images in the shards and all other files.

        Raises:
            StoreError: If the store cannot be listed, or a shard is not the one of the index.
        """
        outer = self.base.listing if isinstance(self.base, RemoteStore) else listing_of(self.base)
        index = outer.position(INDEX.encode())
        if index is None:
            return outer
        content = (
            self.base.fetch([index])[0]
            if isinstance(self.base, RemoteStore)
            else (self.base / INDEX).read_bytes()
        )
        images = read_index(content, self.shown(INDEX))
        self.refuse_other_shards(images, outer)
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

    def refuse_other_shards(self, images: PackedImages, outer: Listing) -> None:
        """Check that all shards of the index exist, with their sizes.

        Raises:
            StoreError: If one does not.
        """
        for name, size in zip(
            images.shard_names.tolist(), images.shard_sizes.tolist(), strict=True
        ):
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
        rows = [None if self.images is None else row_of(self.images, name) for name in names]
        if isinstance(self.base, RemoteStore):
            return self.base.fetch_pieces(
                [self.piece(name, row) for name, row in zip(names, rows, strict=True)]
            )
        return [self.read_local(name, row) for name, row in zip(names, rows, strict=True)]

    def piece(self, name: bytes, row: int | None) -> Piece:
        """Return the part of an object that holds a file.

        Args:
            name: Name of the file.
            row: Its row in the index; None for a file that is not in a shard.
        """
        assert isinstance(self.base, RemoteStore)
        if row is None or self.images is None:
            position = self.base.position(os.fsdecode(name))
            return Piece(position, 0, int(self.base.listing.sizes[position]))
        return Piece(
            self.base.position(os.fsdecode(self.images.shard_names[self.images.shards[row]])),
            int(self.images.starts[row]),
            int(self.images.sizes[row]),
            int(self.images.checksums[row]),
        )

    def read_local(self, name: bytes, row: int | None) -> bytes:
        """Read a file of a folder, or an image of one of its shards; see `piece`.

        Raises:
            OSError: If it cannot be read.
            StoreError: If it is not what was packed.
        """
        assert isinstance(self.base, Path)
        if row is None or self.images is None:
            return (self.base / os.fsdecode(name)).read_bytes()
        shard = self.base / os.fsdecode(self.images.shard_names[self.images.shards[row]])
        with shard.open("rb") as file:
            file.seek(int(self.images.starts[row]))
            content = file.read(int(self.images.sizes[row]))
        if zlib.crc32(content) != self.images.checksums[row]:
            raise StoreError(
                f"{shard}: the bytes of {os.fsdecode(name)} do not match their checksum; expected "
                "what was packed. Fix: copy the shard again"
            )
        return content

    def local(self, name: str) -> Path:
        """Return the path of a file, or of a local copy of it; see `Store.local`."""
        if isinstance(self.base, Path):
            self.position(name)
            return self.base / name
        return super().local(name)


def row_of(images: PackedImages, name: bytes) -> int | None:
    """Return the row of an image in the index; None if it is not in a shard."""
    found = bisect_left(images.names, name)
    return found if found < len(images.names) and images.names[found] == name else None


def listing_of(folder: Path) -> Listing:
    """List the files of a folder of this machine."""
    return make_listing(
        Listed(os.fsencode(f"{inside}{entry.name}"), status.st_size, b"%d" % status.st_mtime_ns)
        for inside, entries in walk(folder)
        for entry in entries or ()
        for status in [(folder / f"{inside}{entry.name}").stat()]
    )
