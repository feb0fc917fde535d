"""Names of images, sizes of image files, and text files."""

import pytest

from parcnet_train.data.decoding import read_image
from parcnet_train.data.prepare.files import (
    Images,
    files_below,
    in_parallel,
    lines_of,
    measure,
    read_content,
    read_json,
    read_text,
    repeated,
)
from parcnet_train.errors import DataError, UnreadableError
from preparing import picture, text

PATHS = ("train/a.jpg", "train/b c.jpg", "val/a.jpg", "val/deep/d.png", "0a1b2c3d-e.jpg")
NAMES = {
    ("train/a.jpg", ""): "train/a.jpg",
    ("a.jpg", "val"): "val/a.jpg",
    ("a.jpg", "train/labels"): "train/a.jpg",
    ("../val/a.jpg", "train"): "val/a.jpg",
    ("./train\\a.jpg", ""): "train/a.jpg",
    ("C:\\sets\\val\\a.jpg", ""): "val/a.jpg",
    ("/home/me/sets/val/a.jpg", ""): "val/a.jpg",
    ("train/b%20c.jpg", ""): "train/b c.jpg",
    ("d", ""): "val/deep/d.png",
    ("e.jpg", ""): "0a1b2c3d-e.jpg",
    ("ffffffff-d.png", ""): "val/deep/d.png",
    ("x.jpg", ""): None,
    ("", ""): None,
}


@pytest.mark.parametrize(("name", "near"), NAMES)
def test_images_are_found_by_the_names_of_other_computers(tmp_path, name, near):
    for path in PATHS:
        picture(tmp_path / path)
    assert Images(tmp_path).find(name, near) == NAMES[name, near]


def test_folders_of_masks_are_left_out(tmp_path):
    for path in ("JPEGImages/a.png", "SegmentationClass/a.png"):
        picture(tmp_path / path)
    assert Images(tmp_path, ("SegmentationClass",)).paths == ["JPEGImages/a.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".avif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_measured_size_is_that_of_the_decoded_image(tmp_path, suffix, orientation):
    path = picture(tmp_path / f"a{suffix}", orientation=orientation)
    found = measure(path.read_bytes())
    assert found.shown == read_image(path).shape[:2]
    assert found.stored == (48, 64)


def test_other_files_are_no_images():
    with pytest.raises(UnreadableError, match="not an image in a supported format"):
        measure(b"text")


def test_text_files(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffcat \n\n dög\r\n".encode())
    assert lines_of(file) == ["cat", "dög"]
    file.write_bytes("dög".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_text(file)
    with pytest.raises(DataError, match=r"no\.txt cannot be read \(No such file"):
        read_text(tmp_path / "no.txt")
    with pytest.raises(DataError, match="is not JSON, or is truncated"):
        read_json(text(tmp_path / "a.json", "{"))


def test_errors_of_threads_are_returned_in_order():
    def run(number):
        if number == 1:
            raise DataError("one")
        return number

    first, error, last = in_parallel(run, range(3), "x")
    assert (first, str(error), last) == (0, "one", 2)


def test_files_that_cannot_be_read_are_data_errors(tmp_path):
    with pytest.raises(UnreadableError, match=r"^No such file or directory$"):
        read_content(tmp_path / "no.jpg")
    assert read_content(text(tmp_path / "a.txt", "abc")) == b"abc"


def test_repeated_names():
    assert repeated("abcab") == {"a", "b"}


def test_a_link_to_a_folder_above_leads_to_no_file_beside_the_source(tmp_path):
    source = tmp_path / "source"
    text(source / "a.json", "{}")
    text(tmp_path / "output" / "b.json", "{}")
    (source / "up").symlink_to(tmp_path)
    (source / "self").symlink_to(source)
    assert files_below(source, (".json",)) == ["a.json"]
