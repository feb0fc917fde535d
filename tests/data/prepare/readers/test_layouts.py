"""Sets in our own layouts without a split."""

import numpy as np
import pytest

from parcnet_train.data.prepare.annotated import Palette
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.errors import DataError
from preparing import document, picture, read, text


def test_class_folders(tmp_path):
    for number, name in enumerate(("cat/a.jpg", "dog/b.jpg", "dog/more/c.jpg", ".x/d.jpg")):
        picture(tmp_path / name, number)
    found = read("split", tmp_path)
    assert (found.classes, found.tasks) == (["cat", "dog"], ["classification"])
    assert [(image.label, image.split) for image in found.images] == [
        ("cat", None),
        ("dog", None),
        ("dog", None),
    ]


def test_class_folders_of_some_sets(tmp_path):
    for number, name in enumerate(("train/cat/a.jpg", "train/dog/b.jpg", "test/cat/c.jpg")):
        picture(tmp_path / name, number)
    assert [(image.label, image.split) for image in read("split", tmp_path).images] == [
        ("cat", "test"),
        ("cat", "train"),
        ("dog", "train"),
    ]


def test_classes_may_be_named_like_sets(tmp_path):
    for name in ("train/a.jpg", "bus/b.jpg"):
        picture(tmp_path / name)
    assert read("split", tmp_path).classes == ["bus", "train"]


def test_index_masks(tmp_path):
    picture(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "SegmentationClass").mkdir()
    write_mask(tmp_path / "SegmentationClass" / "a.png", np.ones((48, 64), np.uint8))
    with pytest.raises(DataError, match=r"classes\.txt does not exist.*prepare\.classes"):
        read("split", tmp_path)
    text(tmp_path / "classes.txt", "__ignore__\nbackground\ncat\n")
    found = read("split", tmp_path)
    assert (found.classes, found.tasks) == (["background", "cat"], ["segmentation"])
    assert found.palette == Palette({0: 0, 1: 1, 255: 255}, is_colored=False)


def test_coco(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    document(
        tmp_path / "annotations" / "all.json",
        {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 48, "width": 64}],
            "annotations": [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 7, "name": "cat"}],
        },
    )
    found = read("split", tmp_path)
    assert (found.classes, found.tasks) == (["cat"], ["detection"])
    assert found.images[0].objects[0].box == (1, 2, 4, 6)


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no image in a folder; expected one folder"):
        read("split", tmp_path)
    picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"beside the class folders: 1 \(first: a\.jpg\)"):
        read("split", tmp_path)
