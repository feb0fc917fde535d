"""Part of every script beside an exported file: reads images, and prints one answer per image.

The text of this module is copied into the scripts, so it must run with Python 3.9, NumPy and OpenCV
alone. `about` is the file's metadata.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Arrays = dict[str, Any]  # NumPy arrays by name
Run = Callable[[Any], Arrays]
About = Mapping[str, Any]
# Ordinary images are gray or RGB; with four channels, only files that have as many are read.
FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR, 4: cv2.IMREAD_UNCHANGED}
# Of the files in folders; others can be named one by one.
IMAGES = (".bmp", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp")
Answer = Callable[[Run, Any, About, argparse.Namespace, str], dict[str, Any]]


def read_image(path: Path, channels: int) -> Any:
    """Return an image, upright, as `(height, width, channels)` uint8: gray, RGB, RGBA, or any .npy.

    Raises:
        ValueError: If the file is not such an image.
        OSError: If the file cannot be read.
    """
    content = path.read_bytes()
    image: Any = None
    if path.suffix == ".npy":
        # np.load would also read archives and run pickled objects.
        image = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    elif channels in FLAGS:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), FLAGS[channels]) if content else None
        if image is not None:
            image = image.reshape(*image.shape[:2], -1)
            image = image >> 8 if image.dtype == np.uint16 else image
            order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(image.shape[2])  # OpenCV has BGR
            image = image if order is None else image[..., order]
    else:
        raise ValueError(f"expected a .npy file with {channels} channels")
    is_image = isinstance(image, np.ndarray) and image.ndim == 3 and image.size > 0
    if not is_image or image.shape[2] != channels or image.dtype != np.uint8:
        raise ValueError(f"expected an image with {channels} channels of 8 bits")
    return np.ascontiguousarray(image, np.uint8)


def resized(image: Any, size: Any) -> Any:
    """Resize `(h, w, channels)` to `(*size, channels)`: bilinear, not antialiased."""
    height, width = size
    pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels.reshape(height, width, image.shape[2])  # OpenCV drops the axis of one channel


def fit(image: Any, about: About) -> Any:
    """Resize a whole image to the size of the file's images.

    Returns:
        The pixels, and the part of them that the image covers: height, width, top, left.
    """
    height, width = about["image_size"]
    inner, top, left = (height, width), 0, 0
    if about["keep_aspect"]:
        scale = min(height / image.shape[0], width / image.shape[1])
        inner = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    pixels = np.full((height, width, image.shape[2]), about["fill"] or 0, np.uint8)
    pixels[top : top + inner[0], left : left + inner[1]] = resized(image, inner)
    return pixels, (*inner, top, left)


def as_input(pixels: Any, about: About) -> Any:
    """Turn `(height, width, channels)` uint8 into the file's input, a batch of one."""
    batch = pixels[None] if about["layout"] == "NHWC" else pixels.transpose(2, 0, 1)[None]
    if about["type"] == "float32":
        batch = batch.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(batch)


def positive(text: str) -> int:
    """Return a number of at least 1 of the command line."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return number


def arguments(about: About) -> argparse.Namespace:
    """Parse the command line; `sources` has the images' absolute paths."""
    parser = argparse.ArgumentParser(
        description=f"Run {about['file']} on images and print one line of JSON for each."
    )
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders")
    parser.add_argument("--file", type=Path, help="default: the file beside this script")
    parser.add_argument("--threads", type=positive, default=1, help="default: %(default)s")
    if about["task"] == "classification":
        parser.add_argument(
            "--top", type=positive, default=5, help="classes per image, default: %(default)s"
        )
    if about["task"] == "detection":
        parser.add_argument(
            "--score-threshold",
            type=float,
            default=0.3,
            help="probability that an object has to exceed, default: %(default)s",
        )
    if about["task"] == "segmentation":
        parser.add_argument(
            "--output", type=Path, default=Path("masks"), help="folder, default: %(default)s"
        )
    given = parser.parse_args()
    if given.threads > (cores := os.cpu_count() or 1):
        parser.error(f"argument --threads: {given.threads}: this machine has {cores} cores")
    images = [image for path in given.images for image in images_in(path)]
    if not images:
        parser.error(
            f"{given.images[0]}: this folder has no image; expected files in {' '.join(IMAGES)}"
        )
    given.images, given.sources = images, {image.resolve() for image in images}
    return given


def images_in(path: Path) -> list[Path]:
    """Return the images below a folder, sorted; any other path is that of an image."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.suffix.lower() in IMAGES)


def main(open_file: Callable[[Path, int], Run], answer: Answer, about: About) -> None:
    """Answer for every image of the command line; exit with 1 if one cannot be read."""
    given = arguments(about)
    # Some runtimes print to stdout, where only answers belong: their lines go to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    file = given.file or Path(__file__).with_name(about["file"])
    if not file.is_file():
        sys.exit(f"error: {file} does not exist. Fix: copy it to this folder, or name it by --file")
    try:
        run = open_file(file, given.threads)
    except Exception as error:  # each runtime has exceptions of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        sys.exit(
            f"error: {file} cannot be opened: {reason}. Fix: copy it again, or export it again"
        )
    unreadable, names = 0, set()
    for path in given.images:
        name, number = path.stem, 1
        while name.casefold() in names:  # some file systems do not distinguish upper case
            number += 1
            name = f"{path.stem}_{number}"
        names.add(name.casefold())
        try:
            found = answer(run, read_image(path, about["channels"]), about, given, name)
        except (OSError, ValueError, cv2.error) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            unreadable += 1
            continue
        print(json.dumps({"file": str(path), **found}), file=answers, flush=True)
    sys.exit(unreadable > 0)
