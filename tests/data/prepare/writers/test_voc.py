"""Masks and lists in VOC's layout."""

import numpy as np
import pytest

from parcnet_train.data.prepare.annotated import (
    IGNORE,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    Palette,
)
from parcnet_train.data.prepare.writers import voc
from parcnet_train.data.segmentation.palette import read_mask, write_mask
from parcnet_train.errors import DataError

SIZE = (20, 30)


def square(name, left, right, **values):
    corners = (left, 0, right, 0, right, 20, left, 20)
    return AnnotatedObject(name, (left, 0, right, 20), (corners,), **values)


@pytest.fixture
def found():
    things = [
        square("cat", 0, 20),
        square("dog", 10, 15),
        square(IGNORE, 15, 18, is_crowd=True),
        square("background", 0, 5),
    ]
    images = [
        AnnotatedImage("a", None, size=SIZE, split="train", objects=things),
        AnnotatedImage("b", None, size=SIZE, split="val"),
    ]
    return AnnotatedSet(["cat", "dog"], images)


def test_later_objects_cover_earlier_ones(tmp_path, found):
    names = ["a.jpg", "b.png"]
    voc.write(tmp_path, found, names)
    voc.verify(tmp_path, found, names)
    mask = read_mask(tmp_path / "SegmentationClass" / "a.png")
    row = [0] * 5 + [1] * 5 + [2] * 5 + [255] * 3 + [1] * 2 + [0] * 10
    assert mask.tolist() == [row] * 20
    assert not read_mask(tmp_path / "SegmentationClass" / "b.png").any()
    lists = tmp_path / "ImageSets" / "Segmentation"
    assert (lists / "train.txt").read_text() == "a\n"
    assert (lists / "val.txt").read_text() == "b\n"
    assert not (lists / "test.txt").exists()
    assert (tmp_path / "classes.txt").read_text() == "background\ncat\ndog\n"


def test_masks_of_the_source_keep_their_classes(tmp_path):
    write_mask(tmp_path / "m.png", np.full(SIZE, 2, np.uint8))
    image = AnnotatedImage("a", None, size=SIZE, split="train", mask=tmp_path / "m.png")
    found = AnnotatedSet(["sky", "road", "car"], [image], Palette({2: 2}, is_colored=False))
    voc.write(tmp_path, found, ["a.jpg"])
    assert (tmp_path / "classes.txt").read_text() == "sky\nroad\ncar\n"
    assert (read_mask(tmp_path / "SegmentationClass" / "a.png") == 2).all()


def test_existing_masks_are_kept(tmp_path, found):
    names = ["a.jpg", "b.png"]
    voc.write(tmp_path, found, names)
    file = tmp_path / "SegmentationClass" / "a.png"
    time = file.stat().st_mtime_ns
    voc.write(tmp_path, found, names)
    assert file.stat().st_mtime_ns == time


def test_wrong_masks_are_an_error(tmp_path, found):
    names = ["a.jpg", "b.png"]
    voc.write(tmp_path, found, names)
    write_mask(tmp_path / "SegmentationClass" / "b.png", np.full((10, 10), 9, np.uint8))
    with pytest.raises(DataError, match=r"b\.png has 10x10 pixels and the values \[9\]"):
        voc.verify(tmp_path, found, names)


def test_run_lengths_of_another_size_are_an_error(found, tmp_path):
    runs = {"size": [5, 5], "counts": [25]}
    found.images[0].objects = [AnnotatedObject("cat", (0, 0, 1, 1), runs=runs)]
    with pytest.raises(DataError, match=r"a: cat cannot be drawn \(its mask has 5x5 pixels\)"):
        voc.write(tmp_path, found, ["a.jpg", "b.png"])
