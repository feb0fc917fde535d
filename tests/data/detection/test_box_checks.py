"""Warnings about boxes that do not fit their images, with the likely cause."""

import copy
import logging

import numpy as np
import pytest

from coco_files import TRAIN, VAL, write_annotations
from parcnet_train.data.detection.box_checks import check_areas, check_boxes, misfits_of
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation
from parcnet_train.errors import DataError
from running import configure

WIDTH, HEIGHT = 96, 64
FITTING = [[5, 5, 30, 25], [60, 40, 30, 20], [0, 0, 96, 64]]


def document_of(boxes, **of_each):
    """Return a set with one image per box; keys of annotations are lists or single values."""
    images, entries = [], []
    for number, box in enumerate(boxes):
        size = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": number, "file_name": f"{number}.jpg", **size})
        values = {k: v[number] if isinstance(v, list) else v for k, v in of_each.items()}
        entries.append({"image_id": number, "category_id": 1, "bbox": list(box), **values})
    categories = [{"id": 1, "name": "cat"}]
    return {"images": images, "annotations": entries, "categories": categories}


def read(folder, boxes, **of_each):
    return read_annotations(write_annotations(folder, "train", document_of(boxes, **of_each)))


def warnings_of(caplog, look, annotations, file="boxes.json"):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        look(annotations, file)
    return [record.getMessage() for record in caplog.records]


GOOD = {
    "inside": FITTING,
    "touching the border within a pixel": [[-0.7, -0.5, 30, 64.9], [90, 10, 7, 10]],
    "a part of an object that the image shows": [[-30, 10, 70, 20], [80, 30, 28, 20]],
    "without area": [[5, 5, 0, 10], [5, 5, 10, 0], [500, 500, 0, 0], [1, 1, 5, 5]],
    "small": [[0.5, 0.2, 1.2, 1], [50, 50, 0.5, 0.5], [0, 0, 96, 64]],
}


@pytest.mark.parametrize("boxes", GOOD.values(), ids=GOOD)
def test_plausible_boxes_give_no_warning(tmp_path, caplog, boxes):
    assert warnings_of(caplog, check_boxes, read(tmp_path, boxes)) == []


def corners(box):
    left, top, width, height = box
    return [left, top, left + width, top + height]


MANY = [[10 * i, 6 * i, 20, 15] for i in range(1, 8)]
WRONG = {
    "outside": ([*FITTING, [500, 500, 30, 30], [200, 5, 9, 9]], "2 of its 5", 3, "another size"),
    "left of it": ([*FITTING, [-40, 5, 30, 30]], "1 of its 4", 3, "another size"),
    "huge": ([[0, 0, 1e30, 1e30], *FITTING], "1 of its 4", 0, "another size"),
    "too large for a float": ([[1e308, 0, 1e308, 5], *FITTING], "1 of its 4", 0, "another size"),
    "corners": ([corners(box) for box in MANY], "of its 7", None, "left, top, right, bottom"),
    "shares": ([*FITTING, [0.1, 0.2, 0.5, 0.4], [0, 0, 1, 1]], "2 of its 5", 3, "0 to 1"),
    "turned": ([[5, 70, 40, 22], [20, 66, 30, 30], [5, 5, 5, 5]], "2 of its 3", 0, "swapped"),
}


@pytest.mark.parametrize(("boxes", "count", "first", "cause"), WRONG.values(), ids=WRONG)
def test_boxes_that_do_not_fit_give_one_warning_with_entry_and_cause(
    tmp_path, caplog, boxes, count, first, cause
):
    annotations = read(tmp_path, boxes)
    (line,) = warnings_of(caplog, check_boxes, annotations)
    assert count in line
    if first is None:
        first = int(np.flatnonzero(misfits_of(annotations))[0])
    assert f"annotations[{first}] (image_id {first}, {first}.jpg, 96x64" in line
    assert f"bbox=[{', '.join(f'{each:.6g}' for each in boxes[first])}]" in line
    assert cause in line
    assert "[left, top, width, height]" in line


def test_one_misfit_does_not_make_the_others_corners(tmp_path, caplog):
    fitting = [[5 + n, 6, 30 + n, 40] for n in range(20)]  # larger than their distance from 0, 0
    annotations = read(tmp_path, [*fitting, [90, 60, 120, 70]])
    (line,) = warnings_of(caplog, check_boxes, annotations)
    assert "1 of its 21" in line
    assert "another size" in line


def test_warning_names_the_first_wrong_entry_in_the_file(tmp_path, caplog):
    entries = [
        {"image_id": image, "category_id": 2, "bbox": [900, 900, 5, 5]} for image in (20, 10, 30)
    ]
    good = {"image_id": 40, "category_id": 2, "bbox": [1, 1, 5, 5]}
    document = {**TRAIN, "annotations": [good, *entries]}
    annotations = read_annotations(write_annotations(tmp_path, "train", document))
    (line,) = warnings_of(caplog, check_boxes, annotations)
    assert "3 of its 4" in line
    assert "annotations[1] (image_id 20, c.png, 64x64" in line


def test_crowds_are_not_checked(tmp_path, caplog):
    annotations = read(tmp_path, [*FITTING, [500, 500, 9, 9]], iscrowd=[0, 0, 0, 1])
    assert warnings_of(caplog, check_boxes, annotations) == []


@pytest.mark.parametrize(
    ("boxes", "cause"),
    [
        ([[500, 500, 30, 30]] * 3, "another size"),
        ([[0.5, 0.5, 0.2, 0.2], [0.1, 0.4, 1, 0.1]], "0 to 1"),
        ([[5, 5, 0, 10], [5, 5, 0, 10]], "no width or no height"),
    ],
)
def test_data_set_without_usable_boxes_is_refused(tmp_path, boxes, cause):
    annotations = read(tmp_path, boxes)
    with pytest.raises(DataError) as raised:
        check_boxes(annotations, tmp_path / "boxes.json")
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{tmp_path}/boxes.json: none of its {len(boxes)} boxes can be used")
    assert "annotations[0]" in line
    assert cause in line


def test_data_set_without_boxes_gives_no_warning(tmp_path, caplog):
    document = {**document_of(FITTING), "annotations": []}
    annotations = read_annotations(write_annotations(tmp_path, "train", document))
    assert warnings_of(caplog, check_boxes, annotations) == []
    assert warnings_of(caplog, check_areas, annotations) == []


GOOD_AREAS = {
    "none": {},
    "of masks": {"area": [1.5, 400, 3000]},
    "of masks of whole pixels, larger than their boxes": {"area": [750, 600, 6144 * 1.02]},
    "some of nothing": {"area": [0, 0, 3000]},
}


@pytest.mark.parametrize("areas", GOOD_AREAS.values(), ids=GOOD_AREAS)
def test_plausible_areas_give_no_warning(tmp_path, caplog, areas):
    assert warnings_of(caplog, check_areas, read(tmp_path, FITTING, **areas)) == []


WRONG_AREAS = {
    "of the image": ([6144] * 3, "2 of its 3", "whole image", 6144),
    "of other boxes": ([750, 6000, 6144], "1 of its 3", "larger than their boxes", 6000),
    "nothing": ([0, 0, 0], "3 of its 3", "at most 1 pixel", 0),
    "shares": ([0.1, 0.2, 1], "3 of its 3", "at most 1 pixel", 0.1),
}


@pytest.mark.parametrize(
    ("areas", "count", "problem", "first"), WRONG_AREAS.values(), ids=WRONG_AREAS
)
def test_implausible_areas_give_a_warning(tmp_path, caplog, areas, count, problem, first):
    (line,) = warnings_of(caplog, check_areas, read(tmp_path, FITTING, area=areas))
    assert count in line
    assert problem in line
    assert f"area={first:g}" in line


def set_of(root, train, val):
    for split, document in (("train", train), ("val", val)):
        write_annotations(root, split, document)
    return f"data.root={root}"


@pytest.mark.parametrize("action", ["fit", "check"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_check_and_fit_give_the_same_warnings(coco_folder, caplog, action, split):
    wrong = {"image_id": 30 if split == "train" else 7, "category_id": 2, "bbox": [70, 1, 20, 9]}
    documents = {"train": copy.deepcopy(TRAIN), "val": copy.deepcopy(VAL)}
    for document in documents.values():
        document["annotations"] = document["annotations"][:2]
    documents[split]["annotations"].append(wrong)
    root = set_of(coco_folder, documents["train"], documents["val"])
    arguments = ["task=detection", "data=coco_format", root, f"action={action}"]
    with caplog.at_level(logging.WARNING):
        assert configure(arguments)[1] == []
    lines = [each.getMessage() for each in caplog.records if "fit their images" in each.message]
    assert len(lines) == 1
    assert f"instances_{split}2017.json: 1 of its 3 boxes" in lines[0]
    assert "annotations[2]" in lines[0]
    documents[split]["annotations"] = [wrong]
    set_of(coco_folder, documents["train"], documents["val"])
    (fault,) = configure(arguments)[1]
    assert f"instances_{split}2017.json: none of its 1 boxes can be used" in fault


def test_validation_set_without_objects_gives_a_warning(coco_folder, caplog):
    write_annotations(coco_folder, "val", {**VAL, "annotations": VAL["annotations"][2:]})
    data = CocoData(str(coco_folder), 64, 2, DetectionAugmentation(), num_workers=0)
    with caplog.at_level(logging.WARNING):
        data.check_files("fit")
    (line,) = [each.getMessage() for each in caplog.records if "to detect" in each.message]
    assert "instances_val2017.json has no object to detect in its 3 images (crowds: 1)" in line
