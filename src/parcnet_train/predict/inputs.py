"""Which files `input=` means, and their pixels."""

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
RECURSIVE = "**"  # of a pattern: any folders
ALLOWED = (
    "allowed are an image, a folder, a pattern such as 'photos/*.jpg', or - for names on stdin"
)
DEEP = ("I", "F")  # with which Pillow's names of pixels of more than 8 bits begin


class Inputs(NamedTuple):
    """The files that an input means.

    Attributes:
        paths: Images, and what is called so and may turn out to be none; sorted but for stdin.
        left_out: Other files among them that may be images, of formats that are not read.
    """

    paths: list[Path]
    left_out: list[LeftOut]


def find_images(given: str, skipped: Path) -> Inputs:
    """Finds the files that an input means.

    Of folders and patterns, those that end as images do; of a folder also what is in its folders
    and behind its links, but in none whose name begins with a dot. A file that is reached in
    several ways counts once.

    Args:
        given: an image, a folder, a pattern of `glob`, or `-` for names on stdin, one a line.
        skipped: a folder within a folder that is not looked into: pictures of earlier runs.

    Raises:
        DataError: where there is none.
    """
    if given == STDIN:
        return Inputs(names_on_stdin(), [])
    path = Path(given).expanduser()
    if path.is_dir():
        inputs = images_below(path, skipped.expanduser())
        problem = f"input={given}: the folder holds no image"
    elif path.exists():
        return Inputs([path], [])
    elif glob.has_magic(given):
        inputs = images_like(str(path))
        problem = f"input={given}: no image matches the pattern"
    else:
        raise DataError(f"input={given} does not exist{hint(path.parent, path.name)}; {ALLOWED}")
    if not inputs.paths:
        there = f"; it has {describe(inputs.left_out)}" if inputs.left_out else ""
        raise DataError(f"{problem} ({' '.join(SUFFIXES)}){there}; {ALLOWED}")
    return inputs


def names_on_stdin() -> list[Path]:
    """Paths, one a line; empty lines do not count.

    Raises:
        DataError: where there is none.
    """
    text = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8)
    lines = (line.removesuffix(b"\r") for line in text.split(b"\n"))
    paths = [Path(os.fsdecode(line)).expanduser() for line in lines if line]
    if not paths:
        raise DataError("input=-: stdin named no file; allowed are names of images, one a line")
    return paths


def images_below(folder: Path, skipped: Path) -> Inputs:
    """All images of a folder and of the folders in it."""
    found = contents_of(folder, skipped)
    return Inputs(
        [folder / name for name in sorted([*found.images, *found.no_files])], found.others
    )


def images_like(pattern: str) -> Inputs:
    """All images that match a pattern."""
    paths: dict[tuple[str, str], Path] = {}
    left_out: list[LeftOut] = []
    # Of several ways to a file, the shortest is taken: the others go through links.
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
    """Everything that matches a pattern; `**` enters each folder once, also behind links.

    `glob` follows links that lead back until the system has enough of it.
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


def read_file(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decodes a file as the validation does, which is to be whole.

    Args:
        path: Path of the file.
        max_pixels: Most pixels that its header may declare.

    Raises:
        UnreadableError: where it cannot be read, with its path and the reason.
    """
    try:
        return decode_whole(read_regular(path), max_pixels)
    except OSError as error:
        raise UnreadableError(f"{path}: {reason_of(error)}") from error
    except UnreadableError as error:
        raise UnreadableError(f"{path}: {error}") from error


def to_pixels(image: Any, max_pixels: int = MAX_PIXELS) -> Image:
    """An image of Python code as `(H, W, 3)` uint8 RGB.

    Args:
        image: a path; an image of Pillow, turned as its camera was held, of an animation the frame
            that it stands at; or an array `(H, W, 3)` uint8, RGB.
        max_pixels: Most pixels that the header of a file may declare.

    Raises:
        UnreadableError: for a file that cannot be read.
        DataError: for anything else.
    """
    if isinstance(image, str | Path):
        return read_file(Path(image).expanduser(), max_pixels)
    if isinstance(image, PIL.Image.Image):
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith(DEEP):
            deep = np.asarray(image).astype(np.int64)
            image = PIL.Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8))
        return np.array(image.convert("RGB"))
    is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if not is_array or image.shape[2] != 3 or 0 in image.shape:
        given = f"{image.dtype}{list(image.shape)}" if hasattr(image, "shape") else repr(image)
        raise DataError(
            f"predict: {given[:80]} is no image; allowed are a path, an image of Pillow, or an "
            "array of uint8 with the shape (height, width, 3), RGB"
        )
    return np.ascontiguousarray(image)
