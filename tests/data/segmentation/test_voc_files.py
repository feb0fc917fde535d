"""Lists of images and masks in VOC's layout."""

import os
import shutil

import numpy as np
import pytest

from parcnet_train.data.segmentation.voc_files import find_files
from parcnet_train.errors import DataError
from voc_files import (
    TRAIN,
    VAL,
    image_path,
    mask_of,
    write_list,
)
from voc_modules import make_data


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("what", ["image", "mask"])
def test_missing_file_is_reported_before_anything_is_read(voc_folder, split, what):
    names, count = (["c", "d"], len(TRAIN)) if split == "train" else (["f", "g"], len(VAL))
    folder, ending, endings = {
        "image": ("JPEGImages", ".*", ".jpg or .jpeg or .png"),
        "mask": ("SegmentationClass", ".png", ".png or .tif or .tiff"),
    }[what]
    for name in names:
        (path,) = (voc_folder / folder).glob(f"{name}{ending}")
        path.unlink()
    with pytest.raises(DataError) as raised:
        make_data(voc_folder).check_files("fit")
    message = str(raised.value)
    assert message.startswith(
        f"{voc_folder}/{folder}/{names[0]}{endings} does not exist; 2 of {count} "
    )
    assert f"{voc_folder}/ImageSets/Segmentation/{split}.txt" in message
    assert "data.root" in message


def test_list_may_contain_file_names(voc_folder):
    file = write_list(voc_folder, "train", ["a.jpg", "b.png", "c"])
    images, masks = find_files(file, voc_folder, "JPEGImages", "SegmentationClass")
    assert images.tolist() == [b"JPEGImages/" + n for n in (b"a.jpg", b"b.png", b"c.jpg")]
    assert masks.tolist() == [b"SegmentationClass/" + n + b".png" for n in (b"a", b"b", b"c")]
    write_list(voc_folder, "train", ["a.jpg", "b.jpg"])  # b is a PNG
    with pytest.raises(DataError, match=r"JPEGImages/b\.jpg.* 1 of 2 "):
        make_data(voc_folder).check_files("fit")


def test_entry_that_is_not_a_file_is_missing(voc_folder):
    image_path(voc_folder, "a").unlink()
    os.mkfifo(image_path(voc_folder, "a"))
    with pytest.raises(DataError, match=r"JPEGImages/a\.jpg.* 1 of 4 "):
        make_data(voc_folder).make_train_set()
    lists = voc_folder / "ImageSets" / "Segmentation"
    (lists / "train.txt").unlink()
    os.mkfifo(lists / "train.txt")
    with pytest.raises(DataError, match=r"train\.txt .*FIFO"):
        make_data(voc_folder).make_train_set()


def test_names_may_contain_folders(voc_folder):
    write_list(voc_folder, "val", ["x/y/e", "f"])
    with pytest.raises(DataError, match=r"JPEGImages/x/y/e\.jpg .*does not exist.*; 1 of 2 files"):
        make_data(voc_folder).check_files("test")
    for folder in ("JPEGImages", "SegmentationClass"):
        (voc_folder / folder / "x" / "y").mkdir(parents=True)
        (file,) = (voc_folder / folder).glob("e.*")
        file.rename(voc_folder / folder / "x" / "y" / file.name)
    data = make_data(voc_folder)
    data.check_files("test")
    data.setup("validate")
    (batch,) = data.val_dataloader()
    assert np.array_equal(batch.originals[0], mask_of("e"))


def test_each_folder_is_listed_only_once(voc_folder, monkeypatch):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    make_data(voc_folder).check_files("test")
    assert listed == [voc_folder / "JPEGImages", voc_folder / "SegmentationClass"]


def test_jpeg_is_preferred_among_images_of_the_same_name(voc_folder):
    shutil.copy(image_path(voc_folder, "b"), voc_folder / "JPEGImages" / "a.png")
    image_path(voc_folder, "c").rename(voc_folder / "JPEGImages" / "c.JPG")
    file = voc_folder / "ImageSets" / "Segmentation" / "train.txt"
    images, masks = find_files(file, voc_folder, "JPEGImages", "SegmentationClass")
    assert images.tolist() == [
        b"JPEGImages/" + n for n in (b"a.jpg", b"b.png", b"c.JPG", b"d.jpeg")
    ]
    assert masks.tolist() == [b"SegmentationClass/" + n + b".png" for n in (b"a", b"b", b"c", b"d")]


def test_list_may_contain_pairs(voc_folder):
    """As in VOC's augmented lists, with or without a leading slash; names may contain spaces."""
    (voc_folder / "SegmentationClass").rename(voc_folder / "SegmentationClassAug")
    image_path(voc_folder, "f").rename(voc_folder / "JPEGImages" / "f 1.JPG")
    lines = [
        "/JPEGImages/e.jpg /SegmentationClassAug/e.png",
        "JPEGImages/f 1.JPG\tSegmentationClassAug/f.png \r",
        "",
        "JPEGImages/b.png  SegmentationClassAug/b.png",
    ]
    file = write_list(voc_folder, "val", lines)
    data = make_data(voc_folder, batch_size=3)
    data.check_files("test")
    data.setup("validate")
    (batch,) = data.val_dataloader()
    for original, name in zip(batch.originals, "efb", strict=True):
        assert np.array_equal(original, mask_of(name))
    write_list(voc_folder, "val", [*lines, "e"])
    with pytest.raises(DataError) as raised:
        make_data(voc_folder).check_files("test")
    assert str(raised.value).startswith(f"{file} contains pairs of an image and its mask")
    assert "the line 'e' is not a pair" in str(raised.value)
    write_list(voc_folder, "val", ["JPEGImages/e.jpg SegmentationClass/e.png", lines[0]])
    with pytest.raises(DataError, match=r"/SegmentationClass/e\.png does not exist.*; 1 of 2"):
        make_data(voc_folder).check_files("test")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["A"], "JPEGImages/a.jpg"),
        (["JPEGImages\\a"], "JPEGImages/a.jpg"),
        (["JPEGImages/a.jpg SegmentationClass/A.png"], "SegmentationClass/a.png"),
        (["JPEGImages/b.jpg SegmentationClass/b.png"], "JPEGImages/b.png"),
        (["JPEGImages\\a.jpg SegmentationClass\\a.png"], "JPEGImages/a.jpg"),
    ],
)
def test_message_about_missing_file_suggests_similar_name(voc_folder, lines, found):
    write_list(voc_folder, "train", lines)
    with pytest.raises(DataError) as raised:
        make_data(voc_folder).check_files("fit")
    assert f", but {voc_folder / found} exists" in str(raised.value)
    assert "1 of 1 files" in str(raised.value)


def test_message_about_missing_list_or_folder_suggests_similar_name(voc_folder):
    lists = voc_folder / "ImageSets" / "Segmentation"
    (lists / "train.txt").rename(lists / "Train.txt")
    with pytest.raises(DataError, match=r", but .*/Segmentation/Train\.txt"):
        make_data(voc_folder).check_files("fit")
    (voc_folder / "JPEGImages").rename(voc_folder / "JpegImages")
    with pytest.raises(DataError, match=r"JPEGImages does not exist, but .*/JpegImages"):
        make_data(voc_folder).check_files("test")


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
def test_missing_folder_is_reported(voc_folder, folder):
    shutil.rmtree(voc_folder / folder)
    with pytest.raises(DataError, match=rf"data\.root: .*{folder} does not exist; expected a"):
        make_data(voc_folder).check_files("fit")


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_or_empty_list_is_reported(voc_folder, split):
    file = write_list(voc_folder, split, ["", " "])
    with pytest.raises(
        DataError, match=rf"{split}\.txt contains no image; expected a list of names"
    ):
        make_data(voc_folder).check_files("fit")
    file.unlink()
    with pytest.raises(DataError, match=rf"{split}\.txt cannot be read \(No such file.*train_list"):
        make_data(voc_folder).check_files("fit")


@pytest.mark.parametrize("line", ["a.jpg " * 5000, "a\0b.jpg", "x\0/a.jpg y\0/a.png", "x" * 5000])
def test_absurd_lines_are_refused(voc_folder, line):
    file = write_list(voc_folder, "train", [line])
    with pytest.raises(DataError, match=r"does not exist") as raised:
        find_files(file, voc_folder, "JPEGImages", "SegmentationClass")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 2000
