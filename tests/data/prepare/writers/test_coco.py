"""Annotation files in COCO's layout."""

import json

import numpy as np
import pytest

from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedObject, AnnotatedSet
from parcnet_train.data.prepare.shapes import encode
from parcnet_train.data.prepare.writers import coco
from parcnet_train.errors import DataError


@pytest.fixture
def found():
    mask = np.zeros((20, 30), bool)
    mask[2:4, 5:10] = True
    things = [
        AnnotatedObject("dog", (1.5, 2, 11.5, 12)),
        AnnotatedObject("cat", (5, 2, 10, 4), runs=encode(mask), is_crowd=True),
        AnnotatedObject("cat", (0, 0, 4, 4), ((0, 0, 4, 0, 4, 4, 0, 4),)),
    ]
    images = [
        AnnotatedImage("a", None, size=(20, 30), split="train", objects=things),
        AnnotatedImage("b", None, size=(10, 12), split="train"),
        AnnotatedImage("c", None, size=(20, 30), split="val", objects=things[:1]),
    ]
    return AnnotatedSet(["dog", "cat"], images)


def test_file_is_read_as_a_training_reads_it(tmp_path, found):
    names = ["a.jpg", "b.png", "c.jpg"]
    coco.write(tmp_path, found, names)
    coco.verify(tmp_path, found, names)
    read = read_annotations(tmp_path / "annotations" / "instances_train2017.json")
    assert read.class_names == ["background", "dog", "cat"]
    assert read.files.tolist() == [b"a.jpg", b"b.png"]
    assert read.sizes.tolist() == [[20, 30], [10, 12]]
    assert read.boxes.tolist() == [[1.5, 2, 10, 10], [5, 2, 5, 2], [0, 0, 4, 4]]
    assert read.labels.tolist() == [1, 2, 2]
    assert read.areas.tolist() == [100, 10, 16]
    assert read.is_crowd.tolist() == [False, True, False]
    assert not (tmp_path / "annotations" / "instances_test2017.json").exists()


def test_outlines_are_kept(tmp_path, found):
    coco.write(tmp_path, found, ["a.jpg", "b.png", "c.jpg"])
    file = tmp_path / "annotations" / "instances_train2017.json"
    outlines = [each["segmentation"] for each in json.loads(file.read_text())["annotations"]]
    assert outlines[0] == []
    assert outlines[1] == found.images[0].objects[1].runs
    assert outlines[2] == [[0, 0, 4, 0, 4, 4, 0, 4]]


def test_images_lie_in_the_folder_of_their_set(found):
    assert [coco.path_of(image, "x.jpg") for image in found.images] == [
        "train2017/x.jpg",
        "train2017/x.jpg",
        "val2017/x.jpg",
    ]


def test_other_numbers_are_an_error(tmp_path, found):
    names = ["a.jpg", "b.png", "c.jpg"]
    coco.write(tmp_path, found, names)
    found.images[0].objects.pop()
    with pytest.raises(DataError, match="has 2 images and 3 objects; expected 2 and 2"):
        coco.verify(tmp_path, found, names)
