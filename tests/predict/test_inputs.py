"""The files that an input selects, and the pixels of every kind of image."""

import io
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from parcnet_train.data.decoding import decode, decode_whole
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.predict.inputs import find_images, read_file, to_pixels

NOWHERE = Path("nowhere")


@pytest.fixture
def photos(tmp_path):
    """Files in folders, some of which are not selected."""
    names = ["b.JPG", "a/x.jpg", "a/b/y.tiff", "c.gif", "notes.txt", ".hidden.jpg", ".git/z.jpg"]
    names += ["runs/predict/1/pictures/a.jpg", "[1].png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(given, folder, left_out=NOWHERE):
    return [str(path.relative_to(folder)) for path in find_images(str(given), left_out).paths]


def test_folder_selects_its_images_and_those_of_subfolders(photos):
    expected = ["[1].png", "a/b/y.tiff", "a/x.jpg", "b.JPG", "c.gif"]
    assert found(photos, photos, photos / "runs") == expected
    assert found(photos / "runs", photos, photos / "runs") == ["runs/predict/1/pictures/a.jpg"]


def test_runs_in_the_home_folder_are_skipped(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    assert found(photos, photos, Path("~/runs")) == found(photos, photos, photos / "runs")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.jpg", ["a/x.jpg"]),
        ("*", ["[1].png", "b.JPG", "c.gif"]),
        ("a/**", ["a/b/y.tiff", "a/x.jpg"]),
        ("[1].png", ["[1].png"]),
        ("[bc].*", ["b.JPG", "c.gif"]),
        ("notes.txt", ["notes.txt"]),
    ],
)
def test_pattern_selects_its_matches_and_a_name_itself(pattern, expected, photos):
    assert found(photos / pattern, photos) == expected


def test_linked_folders_are_searched_once_and_cycles_end(photos):
    (photos / "a" / "back").symlink_to(photos)
    (photos / "a" / "again").symlink_to(photos / "a")
    (photos / "elsewhere").mkdir()
    (photos / "elsewhere" / "w.png").touch()
    (photos / "in").mkdir()
    (photos / "in" / "link").symlink_to(photos / "elsewhere")
    assert found(photos / "in", photos) == ["in/link/w.png"]
    assert found(photos / "in" / "**", photos) == ["in/link/w.png"]
    assert found(photos / "a", photos, photos / "runs") == [
        "a/b/y.tiff",
        "a/back/[1].png",
        "a/back/b.JPG",
        "a/back/c.gif",
        "a/back/elsewhere/w.png",
        "a/x.jpg",
    ]
    assert found(photos / "**" / "*.jpg", photos) == ["a/x.jpg", "runs/predict/1/pictures/a.jpg"]
    assert found(photos / "*" / "*" / "*.JPG", photos) == ["a/back/b.JPG"]


def test_special_files_are_selected_and_folders_are_not(photos):
    os.mkfifo(photos / "a" / "fifo.jpg")
    (photos / "a" / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    (photos / "a" / "folder.jpg").mkdir()
    expected = ["a/fifo.jpg", "a/gone.jpg", "a/x.jpg"]
    assert found(photos / "a" / "*.jpg", photos) == expected
    assert found(photos / "a", photos) == ["a/b/y.tiff", *expected]
    with pytest.raises(UnreadableError, match=r"fifo\.jpg: .*FIFO"):
        read_file(photos / "a" / "fifo.jpg")


def test_files_of_unsupported_formats_are_listed(photos):
    (photos / "a" / "z.HEIC").touch()
    for given in (photos / "a", photos / "a" / "*"):
        inputs = find_images(str(given), NOWHERE)
        assert [kind for kind, _ in inputs.left_out] == [".heic"]
        assert inputs.left_out[0].name.endswith("z.HEIC")
    (photos / "raw").mkdir()
    (photos / "raw" / "1.heic").touch()
    with pytest.raises(DataError, match=r"raw: the folder contains no image .*1 \.heic"):
        find_images(str(photos / "raw"), NOWHERE)


def stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_names_on_stdin_keep_their_order(monkeypatch):
    stdin(monkeypatch, b"\xef\xbb\xbfb c.jpg\r\n\n/a.png\n\xff.jpg")
    assert find_images("-", NOWHERE).paths == [
        *map(Path, ("b c.jpg", "/a.png", os.fsdecode(b"\xff.jpg")))
    ]


def test_missing_input_hints_at_a_similar_name(tmp_path):
    (tmp_path / "my photo.JPG").touch()
    match = r"my%20photo\.jpg: .*does not exist, but .*/my photo\.JPG"
    with pytest.raises(DataError, match=match):
        find_images(f"{tmp_path}/my%20photo.jpg", NOWHERE)


def test_inputs_without_images_are_errors(photos, monkeypatch):
    with pytest.raises(DataError, match=r"input=gone\.jpg: .*does not exist; expected an image"):
        find_images("gone.jpg", NOWHERE)
    (photos / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: .*contains no image \(\.jpg .* \.gif .*\)"):
        find_images(str(photos / "empty"), NOWHERE)
    with pytest.raises(DataError, match=r"\*\.webp: no image matches the pattern \(.*\); expected"):
        find_images(str(photos / "*.webp"), NOWHERE)
    stdin(monkeypatch, b"\n")
    with pytest.raises(DataError, match=r"input=-: stdin is empty; expected the names"):
        find_images("-", NOWHERE)


def picture(height=37, width=50):
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image, kind, **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def turned_file(kind):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    settings = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    return encoded(PIL.Image.fromarray(picture()), kind, exif=exif, **settings)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photos_are_rotated_by_their_exif_orientation(kind):
    turned = np.rot90(picture(), -1).astype(int)
    assert np.abs(decode_whole(turned_file(kind)) - turned).mean() < (3 if kind == "JPEG" else 0.01)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation_is_read(kind):
    frames = [np.full((20, 30, 3), value, np.uint8) for value in (200, 20)]
    first, second = map(PIL.Image.fromarray, frames)
    settings = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(first, kind, save_all=True, append_images=[second], **settings)
    with PIL.Image.open(io.BytesIO(content)) as file:
        assert file.n_frames == 2
    assert np.array_equal(decode_whole(content), frames[0])


def test_deep_gray_transparent_and_indexed_files_become_rgb_bytes():
    image = PIL.Image.fromarray(picture())
    deep = cv2.imencode(".png", picture()[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert np.array_equal(decode_whole(deep), picture())
    gray = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    deep = cv2.imencode(".png", gray)[1].tobytes()
    assert np.array_equal(decode_whole(deep), np.dstack([gray >> 8] * 3))
    for mode in ("L", "1", "LA", "P"):
        converted = image.convert(mode)
        expected = np.asarray(converted.convert("RGB"))
        assert np.array_equal(decode_whole(encoded(converted, "PNG")), expected), mode
    clear = np.dstack([picture(), np.zeros((37, 50), np.uint8)])
    content = encoded(PIL.Image.fromarray(clear), "PNG")
    assert np.array_equal(
        decode_whole(content), picture()
    )  # as in training, transparency is ignored


def test_cmyk_is_converted():
    image = PIL.Image.fromarray(picture()).convert("CMYK")
    for kind, most in (("JPEG", 12), ("TIFF", 2)):
        settings = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        error = np.abs(decode_whole(encoded(image, kind, **settings)).astype(int) - picture())
        assert error.max() <= most, kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "CMYK", "turned"])
def test_truncated_files_are_errors_and_whole_ones_match_training(kind, capfd):
    image = PIL.Image.fromarray(picture(120, 160))
    if kind == "turned":
        content = turned_file("JPEG")
    elif kind == "CMYK":
        content = encoded(image.convert("CMYK"), "JPEG")
    else:
        content = encoded(image, kind)
    assert np.array_equal(decode_whole(content), decode(content))
    with pytest.raises(UnreadableError, match=r"^\S.*\S$"):
        decode_whole(content[: len(content) * 2 // 3])
    assert capfd.readouterr().err == ""


def test_unreadable_files_are_named_with_the_reason(tmp_path):
    with pytest.raises(UnreadableError, match=r"/gone\.jpg: No such file or directory$"):
        read_file(tmp_path / "gone.jpg")
    (tmp_path / "x.jpg").write_text("not an image")
    with pytest.raises(UnreadableError, match=r"x\.jpg: it is not an image in a supported fo"):
        read_file(tmp_path / "x.jpg")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableError, match=r"empty\.png: it is not an image"):
        read_file(tmp_path / "empty.png")
    with pytest.raises(UnreadableError, match=rf"{tmp_path}: Is a directory$"):
        read_file(tmp_path)


def test_paths_pillow_images_and_arrays_are_accepted(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture()[..., ::-1])
    image = PIL.Image.fromarray(picture())
    for each in (tmp_path / "a.png", str(tmp_path / "a.png"), image, picture()):
        assert np.array_equal(to_pixels(each), picture())
    gray = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    deep = cv2.imencode(".png", gray)[1].tobytes()
    for content in (turned_file("PNG"), deep):
        with PIL.Image.open(io.BytesIO(content)) as file:
            assert np.array_equal(to_pixels(file), decode(content))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((5, 5, 3)), r"float64\[5, 5, 3\] is not an image; expected a path, a Pillow"),
        (np.zeros((5, 5), np.uint8), r"uint8\[5, 5\] is not"),
        (np.zeros((5, 5, 4), np.uint8), r"uint8\[5, 5, 4\] is not"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8\[0, 5, 3\] is not"),
        (None, "None is not"),
    ],
)
def test_other_inputs_are_errors(given, words):
    with pytest.raises(DataError, match=words):
        to_pixels(given)
