"""Packing the images of a data set into shards, which `PackedStore` reads.

The shards are written by litData's `optimize`, and its StreamingDataset reads them too: each item
is a path and the bytes of the file. An object store lists shards in fewer requests than images.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg

from parcnet_train.data.decoding import SUFFIXES, decode
from parcnet_train.data.folders import is_file, walk
from parcnet_train.data.headers import find_header
from parcnet_train.data.prepare.convert import RECORD, is_complete, refuse_place
from parcnet_train.data.prepare.sources import in_one_line, write_file
from parcnet_train.data.resizing import resized
from parcnet_train.data.stores.packed import INDEX, VERSION, PackedImages
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import ConfigError, DataError, UnreadableError, printable, unfit_name
from parcnet_train.files import complete, read_regular, to_json, whole_file

SHARD_BYTES = 2**26  # as litData's documentation recommends
QUALITY = 95  # of a resized JPEG
ANNOTATED = ("annotations", "ImageSets")  # folders of sets with boxes or masks


class Packed(NamedTuple):
    """Result of packing.

    Attributes:
        images: Number of images.
        others: Number of files that were copied as they are, such as annotations.
        shards: Number of shards.
        bytes: Number of bytes of the images in the shards.
        was_complete: Whether an earlier call had completed it.
    """

    images: int
    others: int
    shards: int
    bytes: int
    was_complete: bool


class Item(NamedTuple):
    """File to pack: its path below the root, and its path on this machine."""

    name: str
    file: str


def pack(source: Path, root: Path, short_side: int | None) -> Packed:
    """Pack a data set in one of our layouts.

    Args:
        source: Folder of the data set; it is not changed.
        root: Folder to create.
        short_side: Shorter side in pixels to which larger JPEG images are reduced; None: all files
            stay as they are. Only for class folders.

    Raises:
        ConfigError: If litData is not installed, or the settings do not fit the data set.
        DataError: If the data set has no images, or the output cannot be written.
    """
    refuse_place(source, root)
    if short_side is not None and (found := [n for n in ANNOTATED if (source / n).is_dir()]):
        raise ConfigError(
            f"prepare.short_side={short_side}: {source / found[0]} describes boxes or masks, which "
            "would not fit smaller images; expected a data set of class folders. Fix: "
            "prepare.short_side=null"
        )
    with in_one_line(root):
        images, others = files_of(source)
        if not images:
            raise DataError(f"prepare.input={source}: it contains no image; expected a data set")
        digest = digest_of([*images, *others], short_side)
        if is_complete(root, digest):
            content = read_shards(root)
            return Packed(len(images), len(others), *sums(content), was_complete=True)
        folder = root.with_name(f".{root.name}.partial")
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted call
        folder.mkdir(parents=True)
        write_shards(images, folder, short_side)
        content = read_shards(folder)
        refuse_losses(images, content, short_side)
        with whole_file(folder / INDEX) as file:
            np.savez(file, version=np.int64(VERSION), **content._asdict())
        for each in others:
            target = folder / each.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each.file, target)
        record = {
            "status": "done",
            "digest": digest,
            "source": str(source.resolve()),
            "short_side": short_side,
            "images": len(images),
        }
        write_file(folder / RECORD, to_json(record, indent=2))
        if root.is_dir():
            root.rmdir()  # empty, as `is_complete` has found
        complete(folder, root)
    return Packed(len(images), len(others), *sums(content), was_complete=False)


def files_of(source: Path) -> tuple[list[Item], list[Item]]:
    """Return the images of a data set and its other files, sorted by name.

    Raises:
        DataError: If a name is not printable UTF-8 text, which shards need.
    """
    images: list[Item] = []
    others: list[Item] = []
    for inside, entries in walk(source):
        if entries is None:
            raise DataError(f"prepare.input={source}: {source / inside} cannot be opened")
        for entry in filter(is_file, entries):
            name = f"{inside}{entry.name}"
            if problem := unfit_name(name):
                raise DataError(
                    f"prepare.input={source}: the name of the file {printable(name)} {problem}; "
                    "expected printable UTF-8 text. Fix: rename it"
                )
            is_image = entry.name.lower().endswith(SUFFIXES)
            (images if is_image else others).append(Item(name, str(source / name)))
    return sorted(images), sorted(others)


def digest_of(items: Sequence[Item], short_side: int | None) -> str:
    """Return a hash of names, sizes and times of the files, and of the settings."""
    total = hashlib.sha256(f"{VERSION} {short_side}".encode())
    for item in items:
        status = Path(item.file).stat()
        total.update(f"{item.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return total.hexdigest()


def write_shards(images: Sequence[Item], folder: Path, short_side: int | None) -> None:
    """Write the shards and litData's index.

    Raises:
        ConfigError: If litData is not installed.
        DataError: If litData fails.
    """
    try:
        import litdata
    except ImportError as error:
        raise ConfigError(
            "prepare.pack=true needs the package litdata; expected an installed one. Fix: pip "
            "install 'parcnet-train[pack]'"
        ) from error
    try:
        litdata.optimize(
            fn=functools.partial(content_of, short_side=short_side),
            inputs=list(map(tuple, images)),
            output_dir=str(folder),
            chunk_bytes=SHARD_BYTES,
            num_workers=min(own_cores(), len(images)),
            reorder_files=False,
            verbose=False,
        )
    except Exception as error:  # litData raises nearly anything
        raise DataError(
            f"prepare.output={folder}: litData could not write the shards ({error}). Fix: check "
            "that all images can be read and that the disk has room"
        ) from error


def content_of(item: tuple[str, str], short_side: int | None) -> tuple[str, bytes]:
    """Return the item of a shard: the path of an image, and its bytes."""
    name, file = item
    content = read_regular(Path(file))
    return name, content if short_side is None else reduced(content, short_side)


def reduced(content: bytes, short_side: int) -> bytes:
    """Return a JPEG file with a shorter side of `short_side` pixels, upright.

    A smaller image, a damaged one and one of another format stays as it is.
    """
    header = find_header(content)
    if header is None or header.kind != "JPEG" or min(header.size) <= short_side:
        return content
    try:
        image = decode(content)
    except UnreadableError:
        return content
    scale = short_side / min(image.shape[:2])
    height, width = (max(short_side, math.floor(side * scale + 0.5)) for side in image.shape[:2])
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(resized(image, (height, width))),
        quality=QUALITY,
        colorspace="RGB",
        colorsubsampling="444",
    )


def read_shards(folder: Path) -> PackedImages:
    """Find the images in the shards of a folder.

    A shard begins with the number of its items and their offsets, each a uint32. An item begins
    with the numbers of bytes of its two fields, which follow.
    """
    shards = sorted(folder.glob("*.bin"))
    rows = [
        (name, number, start, size, checksum)
        for number, shard in enumerate(shards)
        for name, start, size, checksum in images_in(shard.read_bytes())
    ]
    names, numbers, starts, sizes, checksums = zip(*sorted(rows), strict=True)
    return PackedImages(
        np.array(names, np.bytes_),
        np.array(numbers, np.int32),
        np.array(starts, np.int64),
        np.array(sizes, np.int64),
        np.array(checksums, np.uint32),
        np.array([os.fsencode(shard.name) for shard in shards]),
        np.array([shard.stat().st_size for shard in shards], np.int64),
    )


def images_in(shard: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, first byte, number of bytes and CRC-32 of each image in a shard."""
    count = int(np.frombuffer(shard, np.uint32, 1)[0])
    for offset in np.frombuffer(shard, np.uint32, count, offset=4).tolist():
        of_name, size = np.frombuffer(shard, np.uint32, 2, offset=offset).tolist()
        start = offset + 8 + of_name
        yield shard[offset + 8 : start], start, size, zlib.crc32(shard[start : start + size])


def refuse_losses(images: Sequence[Item], content: PackedImages, short_side: int | None) -> None:
    """Check that the shards have all images, unchanged if they were not reduced.

    Raises:
        DataError: If they do not.
    """
    names = [os.fsencode(each.name) for each in images]
    if sorted(names) != content.names.tolist():
        raise DataError(
            f"prepare.pack=true: the shards have {len(content.names):,} images; expected the "
            f"{len(images):,} of the data set. Fix: run the command again"
        )
    sizes = dict(zip(content.names.tolist(), content.sizes.tolist(), strict=True))
    changed = [
        each.name
        for each, name in zip(images, names, strict=True)
        if short_side is None and sizes[name] != Path(each.file).stat().st_size
    ]
    if changed:
        raise DataError(
            f"prepare.pack=true: {len(changed):,} images have changed while they were packed "
            f"(first: {changed[0]}). Fix: run the command again"
        )


def sums(content: PackedImages) -> tuple[int, int]:
    """Return the number of shards, and of bytes of the images."""
    return len(content.shard_names), int(content.sizes.sum())
