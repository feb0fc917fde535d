"""Image files that are cut, changed, renamed or lie in their headers are read, or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from fuzzing import ends_well, folder, fuzz, hostile_bytes
from parcnet_train.data.decoding import decode_whole, read_image
from parcnet_train.data.prepare.annotated import AnnotatedImage, Palette
from parcnet_train.data.prepare.files import measure
from parcnet_train.data.prepare.masks import indices_of
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def encoded(kind, mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width, height, depth=8, color=2, data=b"\0" * 64):
    """Return a PNG that declares any size and has any data."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


FILES = [
    encoded("JPEG"),
    encoded("JPEG", progressive=True),
    encoded("JPEG", "CMYK"),
    encoded("JPEG", "L", exif=turned()),
    encoded("PNG"),
    encoded("PNG", "P"),
    encoded("PNG", "L"),
    encoded("PNG", "1"),
    encoded("PNG", "RGBA"),
    encoded("GIF"),
    encoded("BMP"),
    encoded("BMP", "P"),
    encoded("WEBP"),
    encoded("WEBP", lossless=True, exif=turned()),
    encoded("TIFF"),
    encoded("TIFF", "L"),
    encoded("TIFF", "P", compression="tiff_lzw"),
    encoded("TIFF", big_tiff=True),
    encoded("TIFF", "F"),
    encoded("AVIF"),
    encoded("JPEG2000"),
    encoded("JPEG2000", no_jp2=True),
    encoded("PPM"),
    b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n",
]
SIZES = (0, 1, 2, 255, 4096, 13_377, 60_000, 65_535, 2**31 - 1, 2**32 - 1)

false_headers = st.builds(
    png,
    st.sampled_from(SIZES),
    st.sampled_from(SIZES),
    st.sampled_from([1, 2, 4, 8, 16, 3]),
    st.sampled_from([0, 2, 3, 4, 6, 1]),
    st.sampled_from([b"", b"\0" * 64, b"\5" * 10**6]),
)
contents = st.one_of(
    st.sampled_from(FILES).flatmap(hostile_bytes),
    st.sampled_from(FILES).flatmap(hostile_bytes).flatmap(hostile_bytes),
    false_headers,
    st.tuples(st.sampled_from(FILES), st.sampled_from(FILES)).map(lambda two: two[0][:40] + two[1]),
    st.binary(max_size=200),
)
SUFFIXES = (".jpg", ".png", ".gif", ".tif", ".webp", ".jp2", "")


BLACK = Palette({0: 0}, is_colored=True)


def indices_of_colors(path):
    return indices_of(AnnotatedImage(path.name, path, mask=path), BLACK)


def mask_or_colors(path):
    try:
        read_mask(path)
    except DataError:
        indices_of_colors(path)
        raise


@fuzz(600, contents, st.sampled_from(SUFFIXES))
def test_images_and_masks_are_read_or_refused(content, suffix):
    with folder() as root:
        path = root / f"image{suffix}"
        path.write_bytes(content)
        for function in (
            lambda: read_image(path),
            lambda: mask_or_colors(path),
            lambda: indices_of_colors(path),
        ):
            error = ends_well(function, root)
            assert error is None or str(path) in str(error)
        for function in (decode_whole, measure):  # whose callers add the path
            ends_well(lambda function=function: function(content), "")


@pytest.mark.parametrize("content", FILES, ids=range(len(FILES)))
def test_every_length_of_a_file_is_read_or_refused(content):
    for length in range(0, len(content), max(1, len(content) // 40)):
        for function in (decode_whole, measure):
            ends_well(lambda function=function, cut=content[:length]: function(cut), "")
