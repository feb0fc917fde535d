"""Format and size of an image, read from the header before the file is decoded.

A header of a few bytes can declare gigabytes of pixels, for which decoders allocate memory before
they read any. Therefore only files whose header is understood here are decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from parcnet_train.errors import UnreadableError

# Pillow's limit, twice `PIL.Image.MAX_IMAGE_PIXELS`: 13,377 x 13,377 pixels, 0.5 GB as RGB.
MAX_PIXELS = 178_956_970

UNKNOWN = "it is not an image in a supported format"

Size = tuple[int, int]  # height, width


class Header(NamedTuple):
    """Format and size from the header of an image file.

    Attributes:
        kind: Format, in Pillow's spelling.
        size: Height and width in pixels, as stored: the EXIF orientation is not applied.
    """

    kind: str
    size: Size


def read_header(content: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Read format and size of an image file.

    Args:
        content: Bytes of the file.
        max_pixels: Largest number of pixels that the header may declare.

    Raises:
        UnreadableError: If the format is unknown, the header is damaged, or the image is too large;
            the message is the reason without the path.
    """
    header = find_header(content)
    if header is None:
        raise UnreadableError(UNKNOWN)
    if (reason := too_large(header.size, max_pixels)) is not None:
        raise UnreadableError(reason)
    return header


def too_large(size: Size, max_pixels: int) -> str | None:
    """Return why an image of a size is not decoded; None if it is."""
    height, width = size
    if height * width <= max_pixels:
        return None
    return (
        f"its header declares {width}x{height} = {height * width:,} pixels, more than "
        f"data.max_pixels={max_pixels}"
    )


def find_header(content: bytes) -> Header | None:
    """Return format and size of an image file; None for unknown formats and damaged headers."""
    for signature, kind, read_size in FORMATS:
        if signature.match(content):
            try:
                size = read_size(content)
            except (struct.error, LookupError, OverflowError):
                return None
            return Header(kind, size) if min(size) > 0 else None
    return None


def jpeg_size(content: bytes) -> Size:
    """Return the size from the first frame header of a JPEG (SOF0 to SOF15)."""
    position = 2
    while True:
        position = content.find(b"\xff", position)  # decoders skip bytes between segments
        if position < 0:
            raise LookupError
        marker = content[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # DHT, JPG, DAC: no frames
            height, width = struct.unpack_from(">HH", content, position + 5)
            return height, width
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD7:  # markers without a length
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + struct.unpack_from(">H", content, position + 2)[0]


def bmp_size(content: bytes) -> Size:
    """Return the size of a BMP, whose height is negative if the first row is the top one."""
    is_os2 = struct.unpack_from("<I", content, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if is_os2 else "<ii", content, 18)
    return abs(height), width


def webp_size(content: bytes) -> Size:
    """Return the size of a WebP: lossy, lossless and extended files have different headers."""
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", content, 26))
    return height, width


def tiff_size(content: bytes) -> Size:
    """Return the size of a TIFF or BigTIFF.

    The first directory has it as tags 256 (width) and 257 (height).
    """
    order = "<" if content[:2] == b"II" else ">"
    is_big = 43 in content[2:4]
    start = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)[0]
    count = struct.unpack_from(order + ("Q" if is_big else "H"), content, start)[0]
    first, length, value = (8, 20, 12) if is_big else (2, 12, 8)
    sizes = {}
    for number in range(min(count, 0xFFFF)):
        entry = start + first + number * length
        tag, kind = struct.unpack_from(order + "HH", content, entry)
        if tag in (256, 257):
            code = {3: "H", 4: "I", 16: "Q"}[kind]
            sizes[tag] = struct.unpack_from(order + code, content, entry + value)[0]
        if len(sizes) == 2:
            break
    return sizes[257], sizes[256]


def avif_size(content: bytes) -> Size:
    """Return the largest size of all parts of an AVIF, such as the tiles of a large image."""
    found = re.findall(rb"ispe\0{4}(.{4})(.{4})", content, re.DOTALL)
    sizes = [(int.from_bytes(h, "big"), int.from_bytes(w, "big")) for w, h in found]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def jpeg2000_size(content: bytes) -> Size:
    """Return the size from the SIZ segment of a JPEG 2000 codestream, in a JP2 file or bare."""
    start = content.index(b"\xff\x4f\xff\x51") + 8 if b"\xff\x4f\xff\x51" in content else -1
    right, bottom, left, top = struct.unpack_from(">IIII", content, start)
    return bottom - top, right - left


NUMBER = rb"(?:\s|#[^\n]*\n)+(\d{1,9})"  # after white space and comments
PPM = re.compile(rb"P[1-6]" + NUMBER + NUMBER)


def ppm_size(content: bytes) -> Size:
    """Return the size of a PPM, which is written as text."""
    found = PPM.match(content)
    if found is None:
        raise LookupError
    return int(found[2]), int(found[1])


def at(position: int, code: str) -> Callable[[bytes], Size]:
    """Return a function that reads width and height from a fixed position."""

    def read_size(content: bytes) -> Size:
        width, height = struct.unpack_from(code, content, position)
        return height, width

    return read_size


# Signature of each format, its name in Pillow's spelling, and the function that reads the size.
FORMATS: list[tuple[re.Pattern[bytes], str, Callable[[bytes], Size]]] = [
    (re.compile(signature, re.DOTALL), kind, read_size)
    for signature, kind, read_size in (
        (rb"\xff\xd8\xff", "JPEG", jpeg_size),
        (rb"\x89PNG\r\n\x1a\n....IHDR", "PNG", at(16, ">II")),
        (rb"GIF8[79]a", "GIF", at(6, "<HH")),
        (rb"RIFF....WEBPVP8[ LX]", "WEBP", webp_size),
        (rb"BM", "BMP", bmp_size),
        (rb"II[*+]\0|MM\0[*+]", "TIFF", tiff_size),
        (rb"....ftyp(?:avif|avis|mif1|msf1)", "AVIF", avif_size),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG2000", jpeg2000_size),
        (rb"P[1-6][\s#]", "PPM", ppm_size),
    )
]
