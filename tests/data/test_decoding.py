"""Every kind of image file becomes RGB bytes, as OpenCV reads it; Pillow tells what it holds."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from parcnet_train.data.decoding import decode, read_image


def photo(height=37, width=50, channels=3):
    """Smooth, as photos are, with some noise."""
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
def test_jpeg_has_the_pixels_of_opencv(quality, subsampling, progressive, monkeypatch):
    settings = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    for size in ((37, 50), (64, 64), (1, 9)):
        content = encoded(photo(*size), **settings)
        expected = opencv(content)
        with monkeypatch.context() as patch:
            patch.setattr(cv2, "imdecode", None)  # is not called
            assert np.array_equal(decode(content), expected)


def test_jpeg_is_rgb():
    image = photo()
    error = np.abs(decode(encoded(image, quality=100, subsampling=0)).astype(int) - image)
    assert error.max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("comment", [b"", b"beside"])
def test_a_photo_is_turned_as_its_camera_was(orientation, comment):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(), exif=exif, quality=95, comment=comment)
    with Image.open(io.BytesIO(content)) as file:
        # Pillow's numbers: 0 and 1 mirror, 2 to 4 turn, 5 and 6 do both.
        turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
        turned = file if turn is None else file.transpose(Image.Transpose(turn))
        expected = np.array(turned).astype(int)
    assert np.abs(decode(content) - expected).max() <= 8  # colours are upsampled otherwise


def test_grey_files_have_three_equal_channels():
    grey = photo()[..., 0]
    assert np.array_equal(decode(encoded(grey, "PNG")), np.stack([grey] * 3, axis=-1))
    jpeg = encoded(grey, quality=95)
    assert np.array_equal(decode(jpeg), opencv(jpeg))
    assert np.array_equal(decode(jpeg)[..., 0], decode(jpeg)[..., 2])


def test_cmyk_is_converted():
    with Image.fromarray(photo()) as image:
        stream = io.BytesIO()
        image.convert("CMYK").save(stream, "JPEG", quality=100, subsampling=0)
    image = decode(stream.getvalue())
    assert np.array_equal(image, opencv(stream.getvalue()))
    assert np.abs(image.astype(int) - photo()).max() <= 12


def test_damaged_jpeg_is_what_opencv_makes_of_it(capfd):
    content = encoded(photo(200, 300), quality=95)
    half = content[: len(content) // 2]
    with pytest.raises(ValueError, match="Premature end"):
        simplejpeg.decode_jpeg(half)
    assert np.array_equal(decode(half), opencv(half))
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
def test_what_is_no_image_is_none(content, capfd):
    assert decode(content) is None
    capfd.readouterr()


def test_link_to_nowhere_is_unreadable(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    assert read_image(tmp_path / "a.png") is None


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
