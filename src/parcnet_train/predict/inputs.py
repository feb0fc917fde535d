"""Which files `input=` means, and their pixels."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from parcnet_train.data.decoding import Image, decode_whole
from parcnet_train.data.folders import EXTENSIONS
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.errors import DataError, UnreadableError, reason_of
from parcnet_train.files import read_regular

ENDINGS = (*EXTENSIONS, ".gif")
STDIN = "-"
ALLOWED = (
    "allowed are an image, a folder, a pattern such as 'photos/*.jpg', or - for names on stdin"
)
DEEP = ("I", "F")  # with which Pillow's names of pixels of more than 8 bits begin


def find_images(given: str, left_out: Path) -> list[Path]:
    """The files that an input means, sorted but for those of stdin.

    Of folders and patterns, those that end as images do; of a folder also what is in its folders,
    but in none whose name begins with a dot.

    Args:
        given: an image, a folder, a pattern of `glob`, or `-` for names on stdin, one a line.
        left_out: a folder within a folder that is not looked into: pictures of earlier runs.

    Raises:
        DataError: where there is none.
    """
    if given == STDIN:
        return names_on_stdin()
    path = Path(given).expanduser()
    if path.is_dir():
        found = sorted(images_below(path, left_out.expanduser()))
        if not found:
            raise DataError(f"input={given}: the folder holds no image ({' '.join(ENDINGS)})")
        return found
    if path.exists():
        return [path]
    if not glob.has_magic(given):
        raise DataError(f"input={given} does not exist; {ALLOWED}")
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207  absolute patterns too
    matches = [Path(each) for each in sorted(names)]
    found = [each for each in matches if is_image(each.name) and each.is_file()]
    if not found:
        raise DataError(
            f"input={given}: no image ({' '.join(ENDINGS)}) matches the pattern; {ALLOWED}"
        )
    return found


def names_on_stdin() -> list[Path]:
    """Paths, one a line; empty lines do not count.

    Raises:
        DataError: where there is none.
    """
    lines = (line.removesuffix(b"\r") for line in sys.stdin.buffer.read().split(b"\n"))
    paths = [Path(os.fsdecode(line)).expanduser() for line in lines if line]
    if not paths:
        raise DataError("input=-: stdin named no file; allowed are names of images, one a line")
    return paths


def images_below(folder: Path, left_out: Path) -> Iterator[Path]:
    """All images of a folder and of the folders in it."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (Path(parent) / name).resolve() != left_out.resolve()
        ]
        yield from (Path(parent) / name for name in files if is_image(name))


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


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
