"""Facts about image files."""

import io
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tifffile

from doctor_trees import photo, png_of, save, truncated, turned
from parcnet_train.data.decoding import decode
from parcnet_train.data.headers import read_header
from parcnet_train.doctor.reading.facts import (
    Facts,
    damage_of_png,
    facts_of_content,
    facts_of_file,
    facts_of_pixels,
)
from parcnet_train.errors import UnreadableError


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_facts_of_an_ordinary_file(tmp_path):
    path = save(tmp_path / "a.jpg", photo(1))
    facts = facts_of_file(path)
    assert facts[:7] == ("", "", "JPEG", 120, 160, False, "RGB")
    gray = np.asarray(PIL.Image.open(path).convert("L"))
    assert facts.spread == pytest.approx(gray.std(), abs=0.5)
    headers = facts_of_file(path, decodes=False)
    assert headers == Facts(*facts[:7])


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "empty"), (b"text", "unreadable"), (png_of((20_000, 20_000)), "oversized")],
)
def test_problems_are_named(content, problem, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    for decodes in (True, False):
        facts = facts_of_file(tmp_path / "a.png", decodes=decodes)
        assert facts.problem == problem
        with pytest.raises(UnreadableError) as raised:
            read_header(content)
        assert facts.reason == str(raised.value)


def test_missing_and_truncated_files(tmp_path):
    assert facts_of_file(tmp_path / "no.jpg")[:2] == ("missing", "No such file or directory")
    path = save(tmp_path / "a.png", photo(1))
    truncated(path)
    assert facts_of_file(path).problem == "unreadable"


def test_damage_of_a_png_is_found_in_its_checksums():
    content = encoded(PIL.Image.fromarray(photo(1)), "PNG")
    assert damage_of_png(content) is None
    assert damage_of_png(content[:-20]) == "image file is truncated"
    wrong = bytearray(content)
    wrong[60] ^= 255
    assert damage_of_png(bytes(wrong)) == "a part of the file has a wrong checksum"


@pytest.mark.parametrize(
    ("mode", "form", "expected"),
    [
        ("L", "JPEG", "L"),
        ("CMYK", "JPEG", "CMYK"),
        ("RGBA", "PNG", "RGBA"),
        ("P", "PNG", "P"),
        ("I;16", "PNG", "I;16"),
        ("RGB", "WEBP", "RGB"),
    ],
)
def test_modes_are_those_of_pillow(mode, form, expected):
    image = PIL.Image.fromarray(photo(1))
    image = (
        PIL.Image.fromarray(photo(1)[:, :, 0].astype(np.uint16))
        if mode == "I;16"
        else (image.convert(mode))
    )
    facts = facts_of_content(encoded(image, form))
    assert (facts.mode, facts.problem, facts.kind) == (expected, "", form)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_size(orientation, tmp_path):
    turned(tmp_path / "a.jpg", photo(3), orientation)
    facts = facts_of_file(tmp_path / "a.jpg")
    assert facts.turned == (orientation != 1)
    assert (facts.height, facts.width) == ((160, 120) if orientation >= 5 else (120, 160))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("channels", [4, 6])
def test_orientation_turns_size_of_a_tiff_with_several_channels(channels, orientation, tmp_path):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 256, (90, 70, channels), np.uint8)
    tag = (274, "H", 1, orientation, True)
    settings = {"photometric": "minisblack", "planarconfig": "contig", "extratags": [tag]}
    tifffile.imwrite(path, image, **settings)
    height, width = decode(path.read_bytes(), channels=channels).shape[:2]
    for decodes in (True, False):
        facts = facts_of_file(path, decodes=decodes, channels=channels)
        assert facts.turned == (orientation != 1)
        assert (facts.height, facts.width) == (height, width)


def test_pixels_without_a_file_have_facts():
    facts = facts_of_pixels(np.full((40, 60, 3), 9, np.uint8))
    assert (facts.height, facts.width, facts.spread, facts.problem) == (40, 60, 0.0, "")


def test_worker_processes_import_no_torch():
    modules = "parcnet_train.doctor.reading.scan, parcnet_train.doctor.reading.mask_facts"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
