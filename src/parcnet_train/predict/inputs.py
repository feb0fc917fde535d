"""The files that `input=` selects, and their pixels."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps

from parcnet_train.data.channels import GRAY, RGB, words_of
from parcnet_train.data.decoding import SUFFIXES, Image, decode_whole
from parcnet_train.data.folders import (
    LeftOut,
    contents_of,
    describe,
    may_be_image,
    suffix_of,
    walk,
)
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.near_files import hint
from parcnet_train.errors import DataError, UnreadableError, reason_of
from parcnet_train.files import read_regular

STDIN = "-"
RECURSIVE = "**"  # matches any number of nested folders in a pattern
EXPECTED = "expected an image, a folder, a pattern such as 'photos/*.jpg', or - for names on stdin"
MODES = {GRAY: "L", RGB: "RGB"}  # Pillow's modes of ordinary images
DEEP = ("I", "F")  # first letters of Pillow's modes with more than 8 bits per channel


class Inputs(NamedTuple):
    """The files that an input selects.

    Attributes:
        paths: Files with the suffix of an image, sorted unless they come from stdin. Whether they
            can be read is checked later.
        left_out: Files that may be images, but of formats that are not supported.
    """

    paths: list[Path]
    left_out: list[LeftOut]


def find_images(given: str, skipped: Path | None = None, key: str = "input") -> Inputs:
    """Find the files that an input selects.

    Folders and patterns select the files with a suffix of an image. Folders are searched
    recursively, links included, but without subfolders whose names begin with a dot. A file that is
    reached in several ways counts once.

    Args:
        given: Image, folder, `glob` pattern, or `-` for names on stdin, one per line.
        skipped: Subfolder that is not searched, since it holds pictures of earlier runs.
        key: Key of the configuration that has the input.

    Raises:
        DataError: If there is no such file.
    """
    if given == STDIN:
        return Inputs(names_on_stdin(), [])
    path = Path(given).expanduser()
    if path.is_dir():
        inputs = images_below(path, skipped and skipped.expanduser())
        problem = f"{key}={given}: the folder contains no image"
    elif path.exists():
        return Inputs([path], [])
    elif glob.has_magic(given):
        inputs = images_like(str(path))
        problem = f"{key}={given}: no image matches the pattern"
    else:
        near = hint(path.parent, path.name)
        raise DataError(f"{key}={given}: the path does not exist{near}; {EXPECTED}")
    if not inputs.paths:
        there = f", but {describe(inputs.left_out)}" if inputs.left_out else ""
        raise DataError(f"{problem} ({' '.join(SUFFIXES)}){there}; {EXPECTED}")
    return inputs


def names_on_stdin() -> list[Path]:
    """Read paths from stdin, one per line; empty lines are ignored.

    Raises:
        DataError: If there is none.
    """
    text = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8)
    lines = (line.removesuffix(b"\r") for line in text.split(b"\n"))
    paths = [Path(os.fsdecode(line)).expanduser() for line in lines if line]
    if not paths:
        raise DataError("input=-: stdin is empty; expected the names of images, one per line")
    return paths


def images_below(folder: Path, skipped: Path | None) -> Inputs:
    """Return all images in a folder and its subfolders."""
    found = contents_of(folder, skipped)
    return Inputs(
        [folder / name for name in sorted([*found.images, *found.no_files])], found.others
    )


def images_like(pattern: str) -> Inputs:
    """Return all images that match a pattern."""
    paths: dict[tuple[str, str], Path] = {}
    left_out: list[LeftOut] = []
    # If several paths lead to a file, the shortest is taken: the others go through links.
    for path in sorted(map(Path, expand(pattern)), key=lambda path: (len(path.parts), path)):
        lower = path.name.lower()
        if path.is_dir() or lower.startswith("."):
            continue
        if lower.endswith(SUFFIXES):
            paths.setdefault((os.path.realpath(path.parent), path.name), path)
        elif may_be_image(lower):
            left_out.append(LeftOut(suffix_of(lower), str(path)))
    return Inputs(sorted(paths.values()), left_out)


def expand(pattern: str) -> Iterator[str]:
    """Yield all paths that match a pattern; `**` follows links, but enters each folder only once.

    `glob` itself would follow links in a cycle until the operating system refuses the path.
    """
    parts = Path(pattern).parts
    if RECURSIVE not in parts:
        yield from glob.glob(pattern)  # noqa: PTH207  absolute patterns too
        return
    where = parts.index(RECURSIVE)
    rest = parts[where + 1 :] or ("*",)
    starts = glob.glob(str(Path(*parts[:where]))) if where else [""]  # noqa: PTH207
    for start in starts:
        for inside, _ in walk(Path(start)):
            yield from expand(str(Path(glob.escape(str(Path(start, inside))), *rest)))


def read_file(path: Path, max_pixels: int = MAX_PIXELS, channels: int = RGB) -> Image:
    """Decode a file as the validation does; a truncated file is an error.

    Args:
        path: Path of the file.
        max_pixels: Largest number of pixels that its header may declare.
        channels: Number of channels of the network's images, see `decode`.

    Raises:
        UnreadableError: If it cannot be read; the message contains the path and the reason.
    """
    try:
        return decode_whole(read_regular(path), max_pixels, channels)
    except OSError as error:
        raise UnreadableError(f"{path}: {reason_of(error)}") from error
    except UnreadableError as error:
        raise UnreadableError(f"{path}: {error}") from error


def to_pixels(image: Any, max_pixels: int = MAX_PIXELS, channels: int = RGB) -> Image:
    """Convert an image given in Python code to `(H, W, channels)` uint8.

    Args:
        image: Path, Pillow image, or array `(H, W, channels)` uint8, RGB unless the network takes
            others. A Pillow image is rotated according to its EXIF orientation; of an animation,
            the current frame is used.
        max_pixels: Largest number of pixels that the header of a file may declare.
        channels: Number of channels of the network's images.

    Raises:
        UnreadableError: If the file cannot be read.
        DataError: If the image is of another kind.
    """
    if isinstance(image, str | Path):
        return read_file(Path(image).expanduser(), max_pixels, channels)
    if isinstance(image, PIL.Image.Image):
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith(DEEP):
            deep = np.asarray(image).astype(np.int64)
            image = PIL.Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8))
        if channels in MODES:
            image = image.convert(MODES[channels])
        image = np.array(image).reshape(image.height, image.width, -1)
    is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if not is_array or image.shape[2] != channels or 0 in image.shape:
        given = f"{image.dtype}{list(image.shape)}" if hasattr(image, "shape") else repr(image)
        raise DataError(
            f"predict: {given[:80]} is not an image; expected a path, a Pillow image, or an array "
            f"of uint8 with the shape (height, width, {channels}), {words_of(channels)}"
        )
    return np.ascontiguousarray(image)
