"""Quality of a detector on a page, on planted errors."""

import dataclasses
import json

import numpy as np
import pytest

from coco_files import write_coco
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.detection.dataset import BoxedImages
from parcnet_train.detection.evaluation import FoundObjects
from parcnet_train.pages.detection import errors_per_image, evaluated, examples, quality

TASK = type("Task", (), {"evaluated_detections": 100})
A, B, FAR = [0, 0, 20, 20], [30, 0, 20, 20], [0, 30, 9, 9]


@pytest.fixture
def data(tmp_path):
    """Two images: one with two cats, whose id is larger, and one with a dog."""
    images = [{"id": 9, "file_name": "two.png"}, {"id": 4, "file_name": "one.png"}]
    images = [{**each, "height": 40, "width": 60} for each in images]
    objects = [(9, 1, A), (9, 1, B), (4, 2, A)]
    annotations = [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": 400, "iscrowd": 0}
        for n, (image, label, box) in enumerate(objects, 1)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    write_coco(tmp_path, document, document)
    file = tmp_path / "val.json"
    file.write_text(json.dumps(document))
    found = type("Data", (), {"class_names": ["background", "cat", "dog"]})
    annotations = read_annotations(file)
    found.val_set = BoxedImages(annotations, tmp_path / "val2017", None, "stop")
    return found


def detections():
    """In image 0, one of two cats and a false dog; in image 1, the dog, too unsure to be shown."""
    rows = [(A, 0.9, 1), (FAR, 0.5, 2), (A, 0.2, 2)]
    boxes, scores, labels = (np.array(each) for each in zip(*rows, strict=True))
    return FoundObjects(np.array([0, 1]), np.array([0, 2, 3]), boxes.astype(float), scores, labels)


def test_errors_per_image_are_those_that_are_shown(data):
    each = evaluated(detections(), TASK, data)
    assert each.samples.tolist() == [1, 0]  # by their id
    hits, false, missed = errors_per_image(each)
    assert (hits.tolist(), false.tolist(), missed.tolist()) == ([0, 1], [0, 1], [1, 1])


def test_page_names_what_is_found_and_what_is_not(data):
    each = evaluated(detections(), TASK, data)
    curves, confusion, errors = quality(each)
    best, worst = examples(each, 4, data)
    assert [row[:3] for row in curves.table.rows] == [
        ["dog", "1", "50.0 %"],  # after the false one
        ["cat", "2", "50.5 %"],  # 51 of 101 recalls
    ]
    assert (
        "of 3 objects, 1 are found with their class and 2 are not found; 1 detections match no"
        in (confusion.text)
    )
    assert [row[0] for row in errors.table.rows] == ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"]
    assert [row[2] for row in errors.table.rows] == ["0", "0", "0", "0", "1", "1"]
    assert [each.caption for each in best.drawings] == ["two.png: 1 of 2 found, 1 false"]
    assert [each.caption for each in worst.drawings] == ["one.png: 0 of 1 found, 0 false"]


def test_nothing_found_has_no_best_score_and_no_worst_kind(data):
    nothing = FoundObjects(np.array([0, 1]), np.zeros(3, int), *np.empty((3, 0, 4)))
    nothing = nothing._replace(scores=np.empty(0), labels=np.empty(0, int))
    curves, confusion, errors = quality(evaluated(nothing, TASK, data))
    assert curves.text == "At an IoU of 0.5."
    assert "of 3 objects, 0 are found" in confusion.text
    assert "most expensive" not in errors.text
    *_, errors = quality(evaluated(detections(), TASK, data))
    assert errors.text.endswith("The most expensive kind is Bkg: no object there.")


def test_many_classes_show_those_with_the_most_errors(data):
    each = evaluated(detections(), TASK, data)
    names = ["background", *(f"class {n}" for n in range(1, 31))]
    many = each._replace(names=names, problem=dataclasses.replace(each.problem, classes=30))
    _, confusion, _ = quality(many)
    assert confusion.text.endswith("the background and the 19 classes with the most errors of 30.")


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_of_any_channels_are_drawn(channels, data, monkeypatch):
    pixels = np.zeros((40, 60, channels), np.uint8)
    monkeypatch.setattr(data.val_set, "original", lambda _: pixels)
    best, _ = examples(evaluated(detections(), TASK, data), 1, data)
    assert best.drawings[0].content.startswith(b"\xff\xd8")
