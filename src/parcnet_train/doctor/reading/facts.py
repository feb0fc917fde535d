"""Facts about one image file: header, defects, and a few statistics of its pixels.

Worker processes import this module, so it must not import torch.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from parcnet_train.data.channels import GRAY, ORIENTATION, RGB, tiff_orientation, to_gray, upright
from parcnet_train.data.decoding import (
    PILLOW,
    damage,
    decode,
    decode_whole,
)
from parcnet_train.data.headers import MAX_PIXELS, UNKNOWN, Header, find_header, too_large
from parcnet_train.data.near_duplicates import difference_hash
from parcnet_train.data.stores.paths import AnyPath, StoredPath
from parcnet_train.errors import UnreadableError, first_line, reason_of
from parcnet_train.files import read_regular

THUMB = 256  # longer side of the gray image that is measured, in pixels
PREFIX = 1 << 16  # bytes that contain the header of nearly every file

Gray = npt.NDArray[Any]  # (H, W), uint8

# Problem of a file that could not be opened or read. It is looked at again in a second check, since
# what solves it, such as other permissions or a working disk, changes neither size nor time.
MISSING = "missing"
# Problems, in the order of their indices in a table of facts.
PROBLEMS = ("", MISSING, "empty", "unreadable", "oversized", "damaged")
REFUSED = (MISSING, "empty", "unreadable", "oversized")  # by a training; it decodes damaged files


class Facts(NamedTuple):
    """Facts about an image file. A cache keeps them as JSON, so all are plain values.

    Attributes:
        problem: One of `PROBLEMS`.
        reason: Reason of the problem, as a training would state it.
        kind: Format, in Pillow's spelling.
        height: Height in pixels, with the EXIF orientation applied.
        width: Width, likewise.
        turned: Whether the header has an orientation other than upright.
        mode: Mode of the pixels, in Pillow's spelling; `16` after it for 16 bits per channel.
        digest: Hash of the file's content, 64 bits; 0 if only the header was read.
        hash: Perceptual hash, see `difference_hash`.
        spread: Standard deviation of the gray values, which are from 0 to 255.
        bright: Their 99th percentile.
        sharpness: Variance of the Laplacian at a longer side of at most 256 pixels.
    """

    problem: str = ""
    reason: str = ""
    kind: str = ""
    height: int = 0
    width: int = 0
    turned: bool = False
    mode: str = ""
    digest: int = 0
    hash: int = 0
    spread: float = 0.0
    bright: float = 0.0
    sharpness: float = 0.0


def facts_of_file(
    path: AnyPath, max_pixels: int = MAX_PIXELS, decodes: bool = True, channels: int = RGB
) -> Facts:
    """Read the facts about an image file.

    Args:
        path: Path of the file.
        max_pixels: Largest number of pixels that the header may declare.
        decodes: Whether pixels are decoded and measured; otherwise only the header is read.
        channels: Number of channels of the data set's images.
    """
    try:
        if decodes or isinstance(path, StoredPath):
            return facts_of_content(read_regular(path), max_pixels, decodes, channels)
        with path.open("rb") as file:
            content = file.read(PREFIX)
            header = find_header(content)
            if header is None or header.kind in ("AVIF", "TIFF"):  # whose header may be elsewhere
                content += file.read()
        return facts_of_content(content, max_pixels, False, channels)
    except OSError as error:
        return Facts(MISSING, reason_of(error))


def facts_of_content(
    content: bytes, max_pixels: int = MAX_PIXELS, decodes: bool = True, channels: int = RGB
) -> Facts:
    """Return the facts about the content of an image file; see `facts_of_file`."""
    if not content:
        return Facts("empty", UNKNOWN)
    header = find_header(content)
    digest = digest_of(content) if decodes else 0
    if header is None:
        return Facts("unreadable", UNKNOWN, digest=digest)
    mode, orientation = mode_of(content, header)
    if header.kind == "TIFF" and channels not in (GRAY, RGB):  # Pillow opens only some of them
        orientation = tiff_orientation(content)
    height, width = header.size
    if orientation >= 5:
        height, width = width, height
    known = Facts(
        kind=header.kind,
        height=height,
        width=width,
        turned=orientation != 1,
        mode=mode,
        digest=digest,
    )
    if (reason := too_large(header.size, max_pixels)) is not None:
        return known._replace(problem="oversized", reason=reason)
    return measured(content, known, orientation, max_pixels, channels) if decodes else known


def facts_of_pixels(image: npt.NDArray[np.uint8]) -> Facts:
    """Return the facts about a decoded image, `(H, W, C)`, whose file is unknown."""
    height, width = image.shape[:2]
    digest = digest_of(np.ascontiguousarray(image).tobytes())
    known = Facts(height=height, width=width, digest=digest)
    return with_statistics(known, to_gray(image))


def digest_of(content: bytes) -> int:
    """Return a hash of 64 bits of a file's content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def mode_of(content: bytes, header: Header) -> tuple[str, int]:
    """Return the mode of the pixels and the EXIF orientation, 1 to 8; `""` and 1 if unknown."""
    try:
        with PILLOW[header.kind](io.BytesIO(content)) as image:
            mode = str(image.mode)
            if header.kind == "PNG" and content[24] == 16 and not mode.endswith("16"):
                mode += "16"
            if getattr(image, "is_animated", False):
                mode += " animated"
            may_be_turned = "exif" in image.info or header.kind == "TIFF"
            orientation = image.getexif().get(ORIENTATION, 1) if may_be_turned else 1
    except Exception:  # Pillow raises nearly anything for a damaged file
        return "", 1
    return mode, orientation if orientation in range(1, 9) else 1


def measured(
    content: bytes, known: Facts, orientation: int, max_pixels: int, channels: int
) -> Facts:
    """Decode an image and add what its pixels say to the known facts.

    Pixels that a training would decode are enough here at a smaller size and without colors, which
    takes less than half the time; all bytes of the file are still decoded.
    """
    reason = None
    if channels not in (GRAY, RGB):
        try:
            return with_statistics(known, to_gray(decode_whole(content, max_pixels, channels)))
        except UnreadableError as error:
            return known._replace(problem="unreadable", reason=str(error))
    if known.kind == "JPEG":
        try:
            gray = simplejpeg.decode_jpeg(content, "GRAY", min_height=THUMB, min_width=THUMB)
            return with_statistics(known, upright(gray[:, :, 0], orientation))
        except ValueError as error:
            reason = None if known.mode == "CMYK" else first_line(error)
    try:
        image = decode(content, max_pixels)
    except UnreadableError as error:
        return known._replace(problem="unreadable", reason=str(error))
    if known.kind == "PNG":
        reason = damage_of_png(content)
    else:
        reason = damage(content, known.kind) or reason
    if reason:
        known = known._replace(problem="damaged", reason=reason)
    return with_statistics(known, to_gray(image))


def damage_of_png(content: bytes) -> str | None:
    """Return the fault of a PNG file in its chunks, which have checksums; None without a fault."""
    position = 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 12 + length
        if end > len(content):
            break
        checksum = int.from_bytes(content[end - 4 : end], "big")
        if zlib.crc32(content[position + 4 : end - 4]) != checksum:
            return "a part of the file has a wrong checksum"
        if content[position + 4 : position + 8] == b"IEND":
            return None
        position = end
    return "image file is truncated"


def with_statistics(known: Facts, gray: Gray) -> Facts:
    """Add the statistics of a gray image to the known facts."""
    longer = max(gray.shape)
    if longer > THUMB:
        size = [max(1, round(length * THUMB / longer)) for length in gray.shape[::-1]]
        small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    else:
        small = gray
    _, spread = cv2.meanStdDev(small)
    counts = cv2.calcHist([small], [0], None, [256], [0, 256]).ravel()
    bright = int(np.searchsorted(counts.cumsum(), 0.99 * small.size))
    _, edges = cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S))
    return known._replace(
        hash=difference_hash(small),
        spread=round(float(spread[0, 0]), 2),
        bright=float(bright),
        sharpness=round(float(edges[0, 0]) ** 2, 2),
    )
