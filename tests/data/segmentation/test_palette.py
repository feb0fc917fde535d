"""VOC's palette, and reading of masks of all formats."""

import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from parcnet_train.data.segmentation.palette import read_mask, values_in, voc_palette, write_mask
from parcnet_train.errors import DataError, UnreadableError

# Published with VOC2012: the colors of background, aeroplane, bicycle, ... tvmonitor, and "void".
PUBLISHED = """0 0 0, 128 0 0, 0 128 0, 128 128 0, 0 0 128, 128 0 128, 0 128 128, 128 128 128,
64 0 0, 192 0 0, 64 128 0, 192 128 0, 64 0 128, 192 0 128, 64 128 128, 192 128 128, 0 64 0,
128 64 0, 0 192 0, 128 192 0, 0 64 128"""
COLORS = [[int(value) for value in color.split()] for color in PUBLISHED.split(",")]


def test_palette_matches_voc():
    palette = voc_palette()
    assert (palette.shape, palette.dtype) == ((256, 3), np.uint8)
    assert palette[:21].tolist() == COLORS
    assert palette[255].tolist() == [224, 224, 192]
    assert len({tuple(color) for color in palette.tolist()}) == 256


def test_written_mask_is_read_back_and_has_the_palette(tmp_path):
    mask = np.random.default_rng(0).integers(0, 256, (17, 23), dtype=np.uint8)
    write_mask(tmp_path / "mask.png", mask)
    read = read_mask(tmp_path / "mask.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, mask)
    read[:] = 0  # must be writable
    with Image.open(tmp_path / "mask.png") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        assert np.array_equal(np.array(image.convert("RGB")), voc_palette()[mask])


def png(indices, depth, color):
    """Return a PNG of any bit depth, written without a library."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = indices.shape
    bits = np.unpackbits(indices[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    rows = np.pad(
        np.packbits(bits, axis=1), ((0, 0), (1, 0))
    )  # each row begins with its filter type, none
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    palette = chunk(b"PLTE", voc_palette()[: 2**depth].tobytes()) if color == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("color", [0, 3], ids=["gray", "palette"])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_png_of_any_bit_depth_keeps_indices(tmp_path, depth, color):
    mask = np.random.default_rng(depth).integers(0, 2**depth, (5, 13), dtype=np.uint8)
    (tmp_path / "mask.png").write_bytes(png(mask, depth, color))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize(
    ("mode", "way_out"),
    [
        *((mode, "replace its colors by indices .*labelmap") for mode in ("RGB", "RGBA", "LA")),
        ("I;16", "save it with 8 bits"),
    ],
)
def test_color_masks_are_refused(tmp_path, mode, way_out):
    Image.new(mode, (4, 3)).save(tmp_path / "mask.png")
    with pytest.raises(DataError) as caught:
        read_mask(tmp_path / "mask.png")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/mask.png is not a mask of class indices")
    assert f"its pixels are {mode};" in message
    assert re.search(way_out, message)


def test_mask_may_exceed_pillows_pixel_limit(tmp_path, monkeypatch):
    mask = np.random.default_rng(0).integers(0, 256, (5, 13), dtype=np.uint8)
    write_mask(tmp_path / "mask.png", mask)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)


def tiff(indices, depth, meaning):
    """Return a TIFF of one strip; `meaning` is its PhotometricInterpretation."""
    height, width = indices.shape
    bits = np.unpackbits(indices[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    rows = np.packbits(bits, axis=1).tobytes()
    colors = (voc_palette()[: 2**depth].astype(np.uint16) * 257).T.astype("<u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, depth), (259, 3, 1, 1)]
    tags += [(262, 3, 1, meaning), (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, height)]
    tags += [(279, 4, 1, len(rows))]
    tags += [(320, 3, 3 * 2**depth, 8 + len(rows))] if meaning == 3 else []
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(rows) + len(colors))
        + rows
        + colors
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + bytes(4)
    )


def whole():
    return png(np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8), 8, 3)


BROKEN = {
    "missing": (None, "No such file or directory"),
    "empty": (b"", "it is not an image"),
    "text": (b"<html>", "it is not an image"),
    "truncated": (whole()[:2000], "image file is truncated"),
    "damaged": (whole()[:900] + b"\xff" * 40 + whole()[940:], "unrecognized data stream"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_damaged_png_is_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_mask(tmp_path / "mask.png")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/mask.png cannot be read as a mask ({reason}")
    assert "\n" not in message
    assert "0x" not in message


def test_jpeg_mask_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "mask.png", format="JPEG")
    with pytest.raises(UnreadableError, match="its format is JPEG"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("kind", ["TIFF", "BMP", "GIF"])
def test_lossless_formats_keep_indices(tmp_path, kind, mode):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(mask)
    if mode == "P":
        image.putpalette(voc_palette().tobytes())
    image.save(tmp_path / "mask", format=kind)
    assert np.array_equal(read_mask(tmp_path / "mask"), mask)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("meaning", [1, 3], ids=["gray", "palette"])
def test_tiff_of_any_bit_depth_keeps_indices(tmp_path, depth, meaning):
    mask = np.random.default_rng(depth).integers(0, 2**depth, (5, 13), dtype=np.uint8)
    (tmp_path / "mask.tif").write_bytes(tiff(mask, depth, meaning))
    assert np.array_equal(read_mask(tmp_path / "mask.tif"), mask)


def test_tiff_with_zero_as_white_is_refused(tmp_path):
    (tmp_path / "mask.tif").write_bytes(tiff(np.eye(5, dtype=np.uint8), 8, 0))
    with pytest.raises(DataError, match=r"mask\.tif .*0 as white.*PhotometricInterpretation 1"):
        read_mask(tmp_path / "mask.tif")


def test_mask_with_too_many_pixels_is_unreadable(tmp_path):
    write_mask(tmp_path / "mask.png", np.zeros((4, 5), np.uint8))
    assert read_mask(tmp_path / "mask.png", max_pixels=20).shape == (4, 5)
    with pytest.raises(UnreadableError, match=r"mask\.png .*5x4.*data\.max_pixels=19"):
        read_mask(tmp_path / "mask.png", max_pixels=19)


def test_values_of_a_mask():
    assert values_in(np.array([[7, 0], [255, 7]], np.uint8)) == [0, 7, 255]


def test_reading_a_mask_from_a_fifo_fails_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "mask.png")
    with pytest.raises(UnreadableError, match=r"mask\.png .*FIFO"):
        read_mask(tmp_path / "mask.png")
