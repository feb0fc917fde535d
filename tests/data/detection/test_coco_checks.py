"""Refused categories of files in COCO's format."""

import pytest

from coco_categories import CLASSES, OBJECTS, USED, checked, data_of
from coco_files import with_value, write_annotations
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.detection.coco_checks import check_images
from parcnet_train.errors import DataError


def test_unused_categories_stay_classes_and_give_a_warning(coco_folder, caplog):
    categories = [*USED, *({"id": 100 + i, "name": f"kind {i}"} for i in range(20))]
    data = data_of(coco_folder, categories, train=OBJECTS[1:])
    (line,) = checked(data, caplog)
    assert "instances_train2017.json: 21 of its 23 categories have no boxes to learn from" in line
    assert ": ant, kind 0, kind 1" in line
    assert data.class_names == [*CLASSES, *(f"kind {i}" for i in range(20))]
    assert checked(data, caplog, "test") == []


NAMESAKES = [*USED[:2], {"id": 90, "name": "bee"}]


def test_two_annotated_categories_with_the_same_name_are_refused(coco_folder):
    with pytest.raises(DataError, match=r'categories: ids 7, 90 have name="bee" and annot'):
        data_of(coco_folder, NAMESAKES).check_files("fit")
    # One of them in each file.
    data = data_of(coco_folder, NAMESAKES, train=OBJECTS[:2])
    with pytest.raises(DataError, match=r'categories: ids 7, 90 have name="bee" and annot'):
        data.check_files("fit")


def test_annotated_category_named_background_is_refused(coco_folder):
    categories = [{"id": 2, "name": "background"}, USED[0], USED[2]]
    with pytest.raises(DataError, match='categories: id 2 has name="background" and annot'):
        data_of(coco_folder, categories).check_files("fit")


def test_long_names_are_shortened_in_messages(coco_folder):
    with pytest.raises(DataError, match=r"val2017/x+\.\.\. does not exist") as raised:
        check_images(
            read_annotations(
                write_annotations(
                    coco_folder, "val", with_value("images", 0, "file_name", "x" * 5000)
                )
            ),
            coco_folder / "val2017",
        )
    assert len(str(raised.value)) < 1000
