"""Image files of every kind are decoded to RGB bytes, as by OpenCV; Pillow is the reference."""

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from parcnet_train.data.decoding import decode, decode_whole, read_image
from parcnet_train.errors import UnreadableError


def photo(height=37, width=50, channels=3):
    """Return a smooth image with some noise, similar to a photo."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 6, channels), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(image + rng.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)


def encoded(image, kind="JPEG", **settings):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **settings)
    return stream.getvalue()


def opencv(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize("quality", [50, 90, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_pixels_match_opencv(quality, subsampling, progressive, monkeypatch):
    settings = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    for size in ((37, 50), (64, 64), (1, 9)):
        content = encoded(photo(*size), **settings)
        expected = opencv(content)
        with monkeypatch.context() as patch:
            patch.setattr(cv2, "imdecode", None)  # must not be called
            assert np.array_equal(decode(content), expected)


def test_jpeg_is_rgb():
    image = photo()
    error = np.abs(decode(encoded(image, quality=100, subsampling=0)).astype(int) - image)
    assert error.max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("comment", [b"", b"beside"])
def test_exif_orientation_is_applied(orientation, comment):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(), exif=exif, quality=95, comment=comment)
    with Image.open(io.BytesIO(content)) as file:
        # Pillow's numbers: 0 and 1 mirror, 2 to 4 rotate, 5 and 6 do both.
        turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
        turned = file if turn is None else file.transpose(Image.Transpose(turn))
        expected = np.array(turned).astype(int)
    assert np.abs(decode(content) - expected).max() <= 8  # chroma upsampling differs


def test_gray_images_get_three_equal_channels():
    gray = photo()[..., 0]
    assert np.array_equal(decode(encoded(gray, "PNG")), np.stack([gray] * 3, axis=-1))
    jpeg = encoded(gray, quality=95)
    assert np.array_equal(decode(jpeg), opencv(jpeg))
    assert np.array_equal(decode(jpeg)[..., 0], decode(jpeg)[..., 2])


def test_cmyk_is_converted_to_rgb():
    with Image.fromarray(photo()) as image:
        stream = io.BytesIO()
        image.convert("CMYK").save(stream, "JPEG", quality=100, subsampling=0)
    image = decode(stream.getvalue())
    assert np.array_equal(image, opencv(stream.getvalue()))
    assert np.abs(image.astype(int) - photo()).max() <= 12


def test_damaged_jpeg_is_decoded_as_by_opencv(capfd):
    content = encoded(photo(200, 300), quality=95)
    half = content[: len(content) // 2]
    with pytest.raises(ValueError, match="Premature end"):
        simplejpeg.decode_jpeg(half)
    if (expected := opencv(half)) is None:  # OpenCV 5
        with pytest.raises(UnreadableError, match="JPEG"):
            decode(half)
    else:
        assert np.array_equal(decode(half), expected)
    capfd.readouterr()  # OpenCV's decoder complains on stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8 not a jpeg",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 20,
        encoded(photo())[:100],
        encoded(photo(), "PNG")[:60],
    ],
    ids=["empty", "text", "two bytes", "three bytes", "jpeg?", "header", "jpeg cut", "png cut"],
)
def test_file_that_is_not_an_image_is_unreadable(content, capfd):
    with pytest.raises(UnreadableError):
        decode(content)
    capfd.readouterr()


def test_broken_link_is_unreadable(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    with pytest.raises(UnreadableError, match=r"/a\.png .*No such file.*data\.on_error=skip"):
        read_image(tmp_path / "a.png")


def test_reading_a_fifo_fails_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UnreadableError, match=r"/a\.jpg .*FIFO.*data\.on_error=skip"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(UnreadableError, match=r"/dev/zero .*device"):
        read_image(Path("/dev/zero"))


def test_header_with_too_many_pixels_is_refused_before_decoding(tmp_path, monkeypatch):
    content = bytearray(encoded(photo()))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", 65500, 65500)
    (tmp_path / "a.jpg").write_bytes(content)
    for module, name in ((cv2, "imdecode"), (simplejpeg, "decode_jpeg")):
        monkeypatch.setattr(module, name, None)  # must not be called
    with pytest.raises(UnreadableError) as raised:
        read_image(tmp_path / "a.jpg")
    for fact in ("a.jpg", "65500x65500", "data.max_pixels=178956970", "data.on_error=skip"):
        assert fact in str(raised.value)
    with pytest.raises(UnreadableError, match=r"65500x65500.*data\.max_pixels=178956970"):
        decode_whole(bytes(content))


def test_max_pixels_limits_width_times_height():
    content = encoded(photo(4, 5), "PNG")
    assert decode(content, max_pixels=20).shape == (4, 5, 3)
    with pytest.raises(UnreadableError, match=r"5x4.*data\.max_pixels=19$"):
        decode(content, max_pixels=19)


@pytest.mark.parametrize("kind", ["PNG", "AVIF", "TIFF", "GIF", "WEBP"])
def test_pillows_own_pixel_limit_does_not_apply(kind, monkeypatch):
    content = encoded(photo(), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_whole(content).shape == photo().shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_avif_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg, avif = (encoded(photo(), kind, exif=exif, quality=95) for kind in ("JPEG", "AVIF"))
    assert decode(avif).shape == decode(jpeg).shape
    assert np.abs(decode(avif).astype(int) - decode(jpeg)).mean() < 8
    assert np.array_equal(decode_whole(avif), decode(avif))


@pytest.mark.parametrize("kind", ["JPEG2000", "PPM", "GIF", "BMP", "TIFF", "PNG"])
def test_lossless_formats_keep_pixels(kind):
    image = np.kron(photo(4, 5), np.ones((8, 8, 1), np.uint8))  # few colors, for GIF
    assert np.array_equal(decode(encoded(image, kind)), image)
    assert np.array_equal(decode_whole(encoded(image, kind)), image)


def test_transparency_is_dropped():
    rgba = np.dstack([photo(), photo()[..., :1]])
    assert np.array_equal(decode(encoded(rgba, "PNG")), rgba[..., :3])


def test_palette_and_16_bit_files_become_rgb_bytes():
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[:10] = (200, 100, 50)
    stream = io.BytesIO()
    Image.fromarray(rgb).quantize(2).save(stream, "PNG")
    assert np.abs(decode(stream.getvalue()).astype(int) - rgb).max() <= 2
    deep = cv2.imencode(".png", rgb[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert np.array_equal(decode(deep), rgb)
