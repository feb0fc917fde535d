"""Headers of every format and its variants give the sizes that decoders find."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from parcnet_train.data.decoding import PILLOW
from parcnet_train.data.headers import Header, find_header, read_header
from parcnet_train.errors import UnreadableError

SIZE = (37, 50)


def encoded(kind, mode="RGB", **settings):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).convert(mode).save(stream, kind, **settings)
    return stream.getvalue()


FILES = {
    "JPEG": encoded("JPEG"),
    "JPEG progressive": encoded("JPEG", progressive=True, comment=b"\xff\xc0" * 9),
    "JPEG gray": encoded("JPEG", "L", exif=Image.Exif().tobytes()),
    "PNG": encoded("PNG", "P"),
    "GIF": encoded("GIF"),
    "BMP": encoded("BMP"),
    "BMP gray": encoded("BMP", "L"),
    "WEBP": encoded("WEBP"),
    "WEBP lossless": encoded("WEBP", lossless=True),
    "WEBP transparent": encoded("WEBP", "RGBA", exif=Image.Exif().tobytes()),
    "TIFF": encoded("TIFF"),
    "TIFF lzw": encoded("TIFF", compression="tiff_lzw"),
    "TIFF big": encoded("TIFF", big_tiff=True),
    "AVIF": encoded("AVIF"),
    "JPEG2000": encoded("JPEG2000"),
    "JPEG2000 bare": encoded("JPEG2000", no_jp2=True),
    "PPM": encoded("PPM"),
    "PPM commented": encoded("PPM", "L").replace(b"P5\n", b"P5 # 1 2\n#3 4\n"),
    "TIFF opencv": cv2.imencode(".tiff", np.zeros((*SIZE, 3), np.uint16))[1].tobytes(),
}


@pytest.mark.parametrize("name", FILES)
def test_header_gives_format_and_size(name):
    assert find_header(FILES[name]) == Header(name.split()[0], SIZE)


def test_every_known_format_has_a_pillow_reader():
    assert {name.split()[0] for name in FILES} == set(PILLOW)


@pytest.mark.parametrize("name", FILES)
def test_truncated_header_is_refused(name):
    for length in range(30):
        find_header(FILES[name][:length])  # must not raise
    with pytest.raises(UnreadableError):
        read_header(FILES[name][:5])


def with_size(name, at, code, *values):
    content = bytearray(FILES[name])
    struct.pack_into(code, content, at, *values)
    return bytes(content)


def tiff_entry(tag):
    content = FILES["TIFF"]
    start = struct.unpack_from("<I", content, 4)[0] + 2
    while struct.unpack_from("<H", content, start)[0] != tag:
        start += 12
    return start


LARGE = {
    "JPEG": with_size("JPEG", FILES["JPEG"].index(b"\xff\xc0") + 5, ">HH", 65500, 65500),
    "PNG": with_size("PNG", 16, ">II", 65500, 65500),
    "GIF": with_size("GIF", 6, "<HH", 65500, 65500),
    "BMP": with_size("BMP", 18, "<ii", 65500, -65500),
    "WEBP": with_size("WEBP transparent", 24, "6s", b"\xdb\xff\x00" * 2),  # stored minus one
    "TIFF": with_size("TIFF", tiff_entry(256), "<HHIIHHII", 256, 4, 1, 65500, 257, 4, 1, 65500),
    "AVIF": with_size("AVIF", FILES["AVIF"].index(b"ispe") + 8, ">II", 65500, 65500),
    "JPEG2000": with_size(
        "JPEG2000", FILES["JPEG2000"].index(b"\xff\x4f\xff\x51") + 8, ">II", 65500, 65500
    ),
    "PPM": FILES["PPM"].replace(b"50 37", b"65500 65500"),
}


@pytest.mark.parametrize("kind", PILLOW)
def test_too_many_pixels_are_refused_in_every_format(kind):
    with pytest.raises(UnreadableError) as raised:
        read_header(LARGE[kind])
    assert "data.max_pixels=178956970" in str(raised.value)
    assert "65500" in str(raised.value)
    assert find_header(LARGE[kind]).kind == kind


def test_directory_of_a_tiff_beyond_any_file_is_refused():
    content = FILES["TIFF big"]
    assert find_header(content[:8] + b"\xff" * 8 + content[16:]) is None
